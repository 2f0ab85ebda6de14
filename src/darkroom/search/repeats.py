"""The best configurations and the starting point, trained again with other seeds."""

from dataclasses import dataclass
from typing import Any

STARTING_POINT = "starting point"


@dataclass(frozen=True)
class Candidate:
    """A configuration that was trained with several seeds.

    ``values`` are its monitored figures on the validation split, one for each seed it could be trained with;
    ``failures`` the reasons where it could not. ``trial`` is None where no trial had its settings.
    """

    label: str
    trial: int | None
    settings: dict[str, Any]
    values: tuple[float, ...]
    failures: tuple[str, ...]
