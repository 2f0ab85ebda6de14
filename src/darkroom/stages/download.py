"""Stage 1: download or pack the dataset's files to data/raw/<dataset>."""

from pathlib import Path

from darkroom.config import Config
from darkroom.config.addresses import is_address
from darkroom.datasets.catalog import CATALOG
from darkroom.datasets.remote.bring import bring
from darkroom.datasets.untracked import link_untracked
from darkroom.utils.console import messages, reporter
from darkroom.utils.units import MEGABYTE
from darkroom.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    """Download and verify, or pack, the files of ``dataset.name``. Raises DataError."""
    # Whatever the dataset: DVC hashes what lies there as what this stage depends on.
    if not is_address(config.dataset.path):
        link_untracked(Path(config.dataset.path))
    directory = workspace.raw(config.dataset.name)
    with reporter() as report:
        dataset, brought = bring(config.dataset, workspace.remote, report)
        left_out = CATALOG[config.dataset.name].download(dataset, directory, report)
    size = sum(path.stat().st_size for path in directory.iterdir())
    messages.print(f"{config.dataset.name}: {size / MEGABYTE:,.1f} MB in {directory}")
    if brought:
        messages.print(brought)
    if left_out:
        messages.print(left_out)
