"""`darkroom serve`: serve the champion, in one process or in several, until Ctrl-C."""

from pathlib import Path

from darkroom.config import Config
from darkroom.errors import ServingError
from darkroom.inbox.place import find_inbox
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace, host: str, port: int, *, no_key: bool = False) -> None:
    """Serve on ``host``:``port`` until the process is interrupted or terminated.

    Raises ConfigError if the inbox is in the dataset, TrackingError if there is no champion, ModelError if it cannot be
    loaded, ServingError if the address is taken, if others can reach it and there is neither a key nor ``no_key``, if a
    file cannot be written, or if a package is missing.
    """
    if inbox := find_inbox(config):
        config = config.model_copy(update={"serve": config.serve.model_copy(update={"inbox": str(inbox)})})
    try:
        from darkroom.serving.disagreements import check_log
        from darkroom.serving.listening import check_access, listen, read_key

        if config.serve.processes == 1:
            from darkroom.serving.one_process import serve
        else:  # the supervisor needs neither torch nor MLflow
            from darkroom.serving.processes import serve
    except ModuleNotFoundError as problem:
        raise ServingError(f"{problem.name} is not installed; run `pip install --editable '.[serve]'`") from None
    key = read_key(no_key=no_key)
    if config.serve.shadow and config.serve.shadow_log:
        check_log(Path(config.serve.shadow_log))
    with listen(host, port) as listening:
        check_access(listening, host, key, no_key=no_key)
        serve(config, workspace, listening, host, key)
