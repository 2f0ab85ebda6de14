"""Images unlike their class and unlike all are found by their features, each fold by itself."""

import numpy as np
import pytest

from darkroom.audit import outliers
from darkroom.audit.findings import ImageRef
from darkroom.audit.outliers import Distances, find_outliers

CLASSES = ("ant", "bee", "cow")
COUNT, FOLDS, SIZE = 900, 3, 32
STRANGE, MISPLACED = (17, 400, 801), (5, 305, 640)


def clouds(seed=0):
    """Features of three classes, each a cloud; each fold has its own axes, as the features of different models have."""
    generator = np.random.default_rng(seed)
    labels, folds = np.arange(COUNT) % 3, np.arange(COUNT) // 3 % FOLDS
    centers = np.eye(SIZE)[:3] * 8
    features = centers[labels] + generator.normal(size=(COUNT, SIZE))
    return features, labels, folds


def of_models(features, folds):
    turns = [np.linalg.qr(np.random.default_rng(fold).normal(size=(SIZE, SIZE)))[0] for fold in range(FOLDS)]
    return np.stack([row @ turns[fold] for row, fold in zip(features, folds, strict=True)]).astype(np.float32)


def found(features, labels, folds):
    return find_outliers(
        of_models(features, folds), labels, folds,
        images=[ImageRef("train", row) for row in range(COUNT)], files=[f"{row}.png" for row in range(COUNT)],
        digests=[f"{row:032x}" for row in range(COUNT)], classes=CLASSES,
    )  # fmt: skip


def rows(findings, kind):
    return {finding.image.row for finding in findings if finding.kind == kind}


def test_planted_images_are_found_and_hardly_any_others():
    features, labels, folds = clouds()
    features[list(STRANGE)] = 8 * np.eye(SIZE)[[20, 21, 22]]  # in directions where nothing else is
    features[list(MISPLACED)] = np.roll(np.eye(SIZE)[:3] * 8, 1, axis=0)[labels[list(MISPLACED)]]
    findings = found(features, labels, folds)
    assert set(STRANGE) <= rows(findings, "unlike all")
    assert set(MISPLACED) <= rows(findings, "unlike its class")
    assert not rows(findings, "unlike all") & rows(findings, "unlike its class")
    assert len(findings) <= 6 + 0.01 * COUNT


def test_sound_images_are_hardly_ever_found():
    assert np.mean([len(found(*clouds(seed))) for seed in range(10)]) <= 0.005 * COUNT


def test_a_finding_names_the_image_its_reason_and_what_to_compare_it_with():
    features, labels, folds = clouds()
    features[STRANGE[0]] = 8 * np.eye(SIZE)[20]
    first = found(features, labels, folds)[0]
    assert (first.kind, first.image, first.file) == ("unlike all", ImageRef("train", 17), "17.png")
    assert (first.digest, first.label) == (f"{17:032x}", "cow")
    assert "10th neighbor in any" in first.reason
    assert 0.5 <= first.score < 1
    near = [image.row for image in first.neighbors]
    assert len(set(near)) == 5
    assert 17 not in near
    assert all(labels[row] == labels[17] and folds[row] == folds[17] for row in near)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_distances_are_those_of_a_plain_computation_in_any_blocks(monkeypatch, dtype):
    features, labels, folds = clouds()
    features = of_models(features, folds).astype(dtype)
    monkeypatch.setattr(outliers, "BLOCK_BYTES", 7 * 4 * COUNT // FOLDS)
    distances = Distances.between(features, labels, folds)
    unit = features.astype(float) / np.linalg.norm(features.astype(float), axis=1, keepdims=True)
    for members, values in (
        ((folds == 1) & (labels == 2), distances.from_class),
        (folds == 1, distances.from_all),
    ):
        own = np.flatnonzero((folds == 1) & (labels == 2))
        apart = 1 - unit[own] @ unit[members].T
        far = np.sort(apart, axis=1)[:, 10]  # the first is the image itself
        odds = np.log(far / (1 - far))
        scale = 1.4826 * np.median(np.abs(odds - np.median(odds)))
        np.testing.assert_allclose(values[own], (odds - np.median(odds)) / scale, rtol=1e-3, atol=1e-3)


def test_what_has_nothing_in_common_is_told_among_images_that_are_far_apart_themselves():
    # As photographs by a frozen body: their 10th neighbors are at distances around 0.65, those of others above 0.9.
    draw = np.random.default_rng(0)
    features = draw.normal(size=(200, 400)) + np.eye(400)[0] * draw.uniform(8, 16, (200, 1))
    features[:5] = draw.normal(size=(5, 400))
    none = np.zeros(200, int)
    distances = Distances.between(features, none, none)
    assert set(np.flatnonzero(distances.from_class >= outliers.FAR)) == set(range(5))


def test_nothing_is_said_of_a_class_with_few_images_in_a_fold():
    features, labels, folds = clouds()
    labels[labels == 2] = 1
    labels[:19] = 2
    folds[:19] = 0
    features[3] = 8 * np.eye(SIZE)[20]
    distances = Distances.between(of_models(features, folds), labels, folds)
    assert np.isneginf(distances.from_all[:19]).all()
    assert np.isfinite(distances.from_all[19:]).all()
    assert not {finding.image.row for finding in found(features, labels, folds)} & set(range(19))


def test_copies_of_one_image_are_no_outliers():
    features, labels, folds = clouds()
    features[:] = features[0]
    assert found(features, labels, folds) == []
