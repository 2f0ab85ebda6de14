"""Where the inbox lies. Imports little: the supervisor of several servers needs neither torch nor MLflow."""

from pathlib import Path

from darkroom.config import Config
from darkroom.config.addresses import is_address
from darkroom.errors import ConfigError


def find_inbox(config: Config) -> Path | None:
    """The directory that ``serve.inbox`` names, None if it is not set.

    Raises ConfigError if it is the dataset's directory, or in it: pictures that nobody has decided about would be taken
    for images of the dataset, or for a class.
    """
    if config.serve.inbox is None:
        return None
    inbox, dataset = Path(config.serve.inbox).expanduser(), config.dataset
    if dataset.name == "folder" and not is_address(dataset.path):
        source = Path(dataset.path).expanduser()
        if inbox.resolve().is_relative_to(source.resolve()):
            raise ConfigError(
                f"serve.inbox: {config.serve.inbox} is in dataset.path, where its pictures would be taken for images "
                f"of the dataset; set a directory outside of it, such as {source.parent / f'{source.name}-inbox'}"
            )
    return inbox
