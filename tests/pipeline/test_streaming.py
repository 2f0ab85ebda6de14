"""A dataset of which the disk holds some files: it is trained and evaluated on from the project's DVC remote."""

import json
import subprocess
import sys

import pytest
from tests.defaults import write_params
from tests.stages import run_command, run_stages

from darkroom.stages import preprocess

SETTINGS = {"model__name": "mlp", "train__epochs": 2, "search__trials": 0, "preprocess__shard_mb": 1}


def dvc(root, *arguments):
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """A project whose images are in its DVC remote; here are those that DVC was asked for alone."""
    root = tmp_path_factory.mktemp("streamed")
    write_params(
        root, model__name="mlp", train__epochs=2, search__trials=0, preprocess__shard_mb=1, data__local_cache_gb=1e-4
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preprocess, "MEBIBYTE", 16 << 10)
        run_stages(root, "download", "preprocess")
    dvc(root, "init", "--no-scm")
    dvc(root, "remote", "add", "--default", "store", str(tmp_path_factory.mktemp("remote")))
    dvc(root, "add", "data/processed/digits")
    dvc(root, "push")
    shards = list((root / "data" / "processed" / "digits").glob("*.safetensors"))
    assert len(shards) > 8
    for path in (*shards, *(root / ".dvc" / "cache" / "files").rglob("*")):
        if path.is_file():
            path.unlink()
    return root


def test_a_model_is_trained_and_evaluated_from_the_remote(pushed):
    for stage in ("search", "train", "evaluate"):
        assert run_command(pushed, stage).code == 0
    metrics = json.loads((pushed / "reports" / "evaluate" / "metrics.json").read_text())
    assert metrics["accuracy"] > 0.5
    report = (pushed / "reports" / "evaluate" / "index.html").read_text()
    assert '"train": [], "lookedAt": 0' in report  # its train images are not here to be looked at
    here = sum(path.stat().st_size for path in (pushed / "data" / "streamed").rglob("*.safetensors"))
    assert 0 < here <= 100_000
    assert not list((pushed / "data" / "processed" / "digits").glob("*.safetensors"))


def test_too_little_room_is_refused_before_the_work(pushed):
    write_params(pushed, **SETTINGS, data__local_cache_gb=1e-5)
    ended = run_command(pushed, "train")
    assert ended.code == 2
    assert "data.local_cache_gb: 1e-05 are too few: two files of train and all of val need" in ended.errors
