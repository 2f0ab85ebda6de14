"""Are the preprocessed images those that params.yaml describes? `dvc repro` sees to that; commands by hand do not."""

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from darkroom.config import Config
from darkroom.config.addresses import is_address
from darkroom.data.cache import NAMES, DatasetCard
from darkroom.utils.csv_files import read_csv

MAX_NAMED = 3
# dataset.on_leak of images that were preprocessed without it on record.
NONE_DROPPED = "report"
# Files that are looked for where dataset.path points to now.
SAMPLE = 3


def stale_images(config: Config, card: DatasetCard, directory: Path) -> Iterator[str]:
    """A line for each reason to believe that ``config`` describes other images than those in the cache ``directory``.

    ``card`` is that of the cache.
    """
    if note := changed_settings(config, card):
        yield note
    if note := changed_folder(config, directory):
        yield note


def changed_settings(config: Config, card: DatasetCard) -> str | None:
    """A line that names the first settings of ``config`` that differ from those the images were preprocessed with.

    None if all agree. A setting that is newer than the preprocessed images is left out.
    """
    then, now = dict(card.settings), config.model_dump(mode="json", include=set(card.settings))
    if "dataset" in then:
        then["dataset"] = {"on_leak": NONE_DROPPED} | then["dataset"]
        if now["dataset"]["on_leak"] == "stop":  # and did not
            now["dataset"]["on_leak"] = NONE_DROPPED
    differing = [
        f"{section}.{key} was {_shown(value)} and is {_shown(now[section][key])}"
        for section, values in then.items()
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


def changed_folder(config: Config, directory: Path) -> str | None:
    """A line where dataset.path is a directory that has none of the first images of the cache in ``directory``.

    The path itself is not recorded: a folder that was moved holds the same images, and needs no other training.
    """
    if config.dataset.name != "folder" or is_address(path := config.dataset.path):
        return None
    folder = Path(path).expanduser()
    try:
        first = [row["file"] for row in islice(read_csv(directory / NAMES), SAMPLE)]
        # On disk other names may be composed or encoded in another way.
        names = [name for name in first if name and name.isascii()]
        if not names or not folder.is_dir() or any((folder / name).exists() for name in names):
            return None
    except (OSError, ValueError, KeyError, csv.Error):  # a damaged list or folder stops whoever needs it
        return None
    return f"the images were preprocessed from another folder: {path} has no {names[0]}; run `dvc repro preprocess`"


def _shown(value: object) -> str:
    return "empty" if value is None else str(value)
