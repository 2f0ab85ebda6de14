"""The stages: `darkroom download` to `darkroom register`, which `dvc repro` runs.

Each is imported only when it runs, so that it loads only the libraries that it uses, and none for a wrong setting.
"""

from typing import Annotated

import typer

from darkroom.cli.project import load_project
from darkroom.config import Config
from darkroom.errors import SearchError
from darkroom.workspace import Workspace

app = typer.Typer()
STAGES = "Stages (dvc repro runs them in order)"


@app.command(rich_help_panel=STAGES)
def download() -> None:
    """Bring the dataset's files to data/raw, checksums verified."""
    config, workspace = _checked_project()

    from darkroom.stages.download import run

    run(config, workspace)


@app.command(rich_help_panel=STAGES)
def preprocess() -> None:
    """Decode, split and cache the images; report on their quality."""
    config, workspace = _checked_project()

    from darkroom.stages.preprocess import run

    run(config, workspace)


@app.command(rich_help_panel=STAGES)
def search(
    resume: Annotated[bool, typer.Option("--resume", help="Resume the latest study; fail if it does not fit.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start a new study; the old one is kept.")] = False,
) -> None:
    """Search hyperparameters; an interrupted search resumes."""
    if resume and fresh:
        raise SearchError("--resume resumes a study and --fresh begins a new one; give one of them")
    config, workspace = _checked_project()

    from darkroom.stages.search import run

    run(config, workspace, "resume" if resume else "fresh" if fresh else "matching")


@app.command(rich_help_panel=STAGES)
def train() -> None:
    """Train the final model; an interrupted training resumes."""
    config, workspace = _checked_project()

    from darkroom.stages.train import run

    run(config, workspace)


@app.command(rich_help_panel=STAGES)
def evaluate() -> None:
    """Measure the model on the test split."""
    config, workspace = _checked_project()

    from darkroom.stages.evaluate import run

    run(config, workspace)


@app.command(rich_help_panel=STAGES)
def register() -> None:
    """Register the evaluated model in the working tree, such as one that `dvc pull` brought, as challenger."""
    config, workspace = _checked_project()

    from darkroom.stages.register import run

    run(config, workspace)


def _checked_project() -> tuple[Config, Workspace]:
    config, workspace = load_project()
    workspace.check_places()
    return config, workspace
