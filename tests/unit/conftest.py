"""Small datasets for the tests of the parts, and a trained project for those of the commands."""

import shutil
from collections.abc import Callable

import pytest
import torch
from tests.stages import run_stages

from darkroom.config import load
from darkroom.data.batches import Split
from darkroom.data.cache import DatasetCard
from darkroom.workspace import Workspace

MakeCard = Callable[..., DatasetCard]
MakeSplit = Callable[..., Split]
# A training that takes little time.
QUICK = {"search__trials": 0, "train__epochs": 1}


@pytest.fixture
def make_card() -> MakeCard:
    def make(shape: tuple[int, int, int] = (1, 8, 8), classes: int = 3) -> DatasetCard:
        channels = shape[0]
        return DatasetCard(
            name="small",
            classes=tuple(f"class {number}" for number in range(classes)),
            shape=shape,
            mean=(0.2, 0.4, 0.7)[:channels],
            std=(0.3, 0.1, 0.5)[:channels],
            sizes={"train": 60, "val": 30, "test": 30},
            settings={"dataset": {"name": "digits"}, "preprocess": {}},
            fingerprint="0" * 64,
        )

    return make


@pytest.fixture
def make_split() -> MakeSplit:
    """Images of noise, brighter in the half that their class says: easy to tell apart, never the same."""

    def make(count: int = 48, shape: tuple[int, int, int] = (1, 8, 8), *, noise: int = 60, seed: int = 0) -> Split:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % 3
        images = torch.randint(0, noise, (count, *shape), generator=generator)
        height, width = shape[1:]
        images[labels == 1, :, : height // 2] += 100
        images[labels == 2, :, :, : width // 2] += 100
        return Split(images.to(torch.uint8), labels)

    return make


@pytest.fixture
def bring(evaluated):
    """Register the model that lies in the project, as `darkroom register` does before it crowns one."""
    from darkroom.promotion.registration import register_working_tree
    from darkroom.tracking.tracker import connect

    def bring():
        config = load(evaluated / "params.yaml")
        return register_working_tree(connect(config.tracking, Workspace().spools), config, Workspace())

    return bring


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory, empty_store, write_params):
    """A directory in which everything but the evaluation was run."""
    root = tmp_path_factory.mktemp("trained")
    write_params(root, **QUICK)
    shutil.copyfile(empty_store, root / "mlflow.db")
    run_stages(root, "download", "preprocess", "search", "train")
    return root


@pytest.fixture
def trained(project, trained_once):
    """A project of one's own, trained and not evaluated."""
    from darkroom.tracking.relocation import relocate

    root = project(**QUICK)
    shutil.copytree(trained_once, root, dirs_exist_ok=True)
    relocate(root / "mlflow.db")
    return root
