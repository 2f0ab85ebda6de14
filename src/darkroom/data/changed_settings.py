"""Are the preprocessed images those that params.yaml describes? `dvc repro` sees to that; commands by hand do not."""

from darkroom.config import Config
from darkroom.data.cache import DatasetCard

MAX_NAMED = 3


def changed_settings(config: Config, card: DatasetCard) -> str | None:
    """A line that names the first settings of ``config`` that differ from those the images were preprocessed with.

    None if all agree. A setting that is newer than the preprocessed images is left out.
    """
    now = config.model_dump(mode="json", include=set(card.settings))
    differing = [
        f"{section}.{key} was {_shown(value)} and is {_shown(now[section][key])}"
        for section, values in card.settings.items()
        for key, value in values.items()
        if key in now.get(section, {}) and now[section][key] != value
    ]
    if not differing:
        return None
    more = f", and {len(differing) - MAX_NAMED} more" if len(differing) > MAX_NAMED else ""
    return (
        f"the images were preprocessed with other settings: {', '.join(differing[:MAX_NAMED])}{more}; "
        "run `dvc repro preprocess`"
    )


def _shown(value: object) -> str:
    return "empty" if value is None else str(value)
