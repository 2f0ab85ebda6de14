"""Whether a model that answers knows the classes of the dataset in this project."""

from collections.abc import Sequence
from pathlib import Path

from darkroom.data.cache import DatasetCard
from darkroom.data.difference import changed_classes
from darkroom.errors import CacheError
from darkroom.utils.console import warn


def warn_of_other_classes(who: str, classes: Sequence[str], cache: Path) -> None:
    """Warn if the dataset that is preprocessed in ``cache``, if there is one, has other classes than the model."""
    try:
        here = DatasetCard.read(cache).classes
    except CacheError:
        return
    if changes := changed_classes(classes, here):
        warn(
            f"{who} was trained on other classes than {cache} has now ({changes}), and answers with its own; "
            "`darkroom models` lists the versions, `darkroom promote` makes another one champion"
        )
