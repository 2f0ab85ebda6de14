"""Reading the best settings that a search has found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkroom.config import Config, tunable_keys
from darkroom.errors import ConfigError, SearchError
from darkroom.utils.files import checked, read_json

SEARCH = "darkroom search"


@dataclass(frozen=True)
class _Written:
    """What best_params.json must hold; the rest of it is for people."""

    params: dict[str, Any]
    fingerprint: str | None = None


def read_best_params(path: Path, config: Config) -> tuple[Config, str | None]:
    """``config`` with the settings that the search found, and the fingerprint of its data, None if it had none.

    Raises SearchError if the file is missing or damaged, or holds what no search varies.
    """
    written = checked(
        _Written, read_json(path, error=SearchError, made_by=SEARCH), path, error=SearchError, made_by=SEARCH
    )
    if others := sorted(written.params.keys() - tunable_keys()):
        raise SearchError(
            f"{path}: {others[0]}: no setting that a search varies; set it in params.yaml and run `{SEARCH}` again"
        )
    try:
        return config.with_settings(written.params), written.fingerprint
    except ConfigError as problem:
        raise SearchError(f"{path}: damaged ({problem}); run `{SEARCH}` again") from None
