"""The published archives, from a mirror to a registered model."""

import hashlib
import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torchvision
from tests.stages import run_command, run_stages

from darkroom.commands.recipes import use
from darkroom.config import load
from darkroom.stages import download, evaluate, preprocess, search, train
from darkroom.workspace import Workspace


def test_an_mlp_reaches_97_percent_on_mnist_in_3_epochs(project, mirror):
    if mirror is None:
        pytest.skip("no mirror of the published archives: set DARKROOM_MIRROR")
    root = project(
        dataset__name="mnist", dataset__mirror=str(mirror), model__name="mlp", search__trials=0, train__epochs=3
    )
    run_stages(root)
    summary = json.loads((root / "reports" / "evaluate" / "metrics.json").read_text())
    assert summary["images"] == 10_000
    assert summary["accuracy"] >= 0.97
    registered = json.loads(run_command(root, "results", "--json").output)["registered"]
    assert registered == {"name": "darkroom-mnist", "version": "1", "aliases": ["challenger", "champion"]}


def publish_cifar10(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small archive of CIFAR-10's layout in ``directory``, and its checksums in the place of the published ones.

    Each of its three classes is bright in a channel of its own.
    """
    known = torchvision.datasets.CIFAR10
    generator = np.random.default_rng(0)

    def batch(count: int) -> bytes:
        labels = np.arange(count) % 3
        images = generator.integers(0, 100, (count, 3, 32, 32), dtype=np.uint8)
        images[np.arange(count), labels] += 150
        return pickle.dumps({"data": images.reshape(count, -1), "labels": labels.tolist()})

    contents = {"data_batch_1": batch(60), "data_batch_2": batch(30), "test_batch": batch(24)}
    contents["batches.meta"] = pickle.dumps({"label_names": ["red", "green", "blue"]})
    directory.mkdir()
    with tarfile.open(directory / known.filename, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{known.base_folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))

    def md5(content: bytes) -> str:
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    monkeypatch.setattr(known, "tgz_md5", md5((directory / known.filename).read_bytes()))
    monkeypatch.setattr(known, "train_list", [[name, md5(contents[name])] for name in ("data_batch_1", "data_batch_2")])
    monkeypatch.setattr(known, "test_list", [["test_batch", md5(contents["test_batch"])]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(contents["batches.meta"])}
    monkeypatch.setattr(known, "meta", meta)


def test_the_recipe_for_cifar10_takes_an_archive_as_it_is_published(project, tmp_path, monkeypatch):
    root = project()
    (root / "recipes").symlink_to(Path(__file__).parents[2] / "recipes")
    use(Workspace(), "cifar10-cnn64", force=True)
    publish_cifar10(tmp_path / "cifar10", monkeypatch)
    monkeypatch.setenv("DARKROOM_MIRROR", str(tmp_path))
    config = load(root / "params.yaml").with_settings({"train.batch_size": 8})
    for stage in (download, preprocess, search, train, evaluate):
        stage.run(config, Workspace())
    summary = json.loads((root / "reports" / "evaluate" / "metrics.json").read_text())
    assert summary["images"] == 24
    assert summary["accuracy"] == 1
    matrix = json.loads((root / "reports" / "evaluate" / "confusion_matrix.json").read_text())
    assert matrix["classes"] == ["red", "green", "blue"]
