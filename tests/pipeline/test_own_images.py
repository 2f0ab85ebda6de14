"""Experiments with a person's own images, which git does not track, in the copy that DVC makes for them."""

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML


@pytest.fixture(scope="module")
def preprocessed(make_clone, tmp_path_factory):
    """A clone with a few images in data/folder, preprocessed and with its lock file committed."""
    clone = make_clone(tmp_path_factory.mktemp("own"), dataset__name="folder", preprocess__on_suspect="warn")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 8, 8), dtype=np.uint8)
    for label, images in zip(("cats", "dogs"), pixels, strict=True):
        directory = clone.root / "data" / "folder" / label
        directory.mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image).save(directory / f"{number}.png")
    clone.run("dvc", "repro", "preprocess")
    clone.run("git", "add", "dvc.lock")
    clone.commit("preprocessed")
    return clone


def locked(clone, revision):
    """The lock file of a revision, by stage."""
    return YAML(typ="safe").load(clone.run("git", "show", f"{revision}:dvc.lock").stdout)["stages"]


def test_an_experiment_of_other_settings_has_the_same_images(preprocessed):
    before = preprocessed.run("git", "status", "--porcelain").stdout

    ended = preprocessed.run("dvc", "exp", "run", "--temp", "--name=other", "--set-param=train.lr=0.002", "preprocess")

    experiment = preprocessed.run("git", "for-each-ref", "--format=%(refname)", "refs/exps/*/*/other").stdout.strip()
    assert "Stage 'preprocess' didn't change" in ended.stdout
    assert locked(preprocessed, experiment) == locked(preprocessed, "HEAD")
    assert preprocessed.run("git", "status", "--porcelain").stdout == before
