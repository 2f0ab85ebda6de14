"""The benchmarks of the data audit read what people judged, and count what a method finds of it."""

import gzip
import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from benchmarks import images
from benchmarks.audit import labels_needed, near_duplicates, wrong_labels
from PIL import Image

# --- near-duplicates ---------------------------------------------------------------------------------


def test_the_judged_are_exact_and_near_duplicates_but_not_very_similar_ones(tmp_path: Path) -> None:
    path = tmp_path / "duplicates.csv"
    path.write_text("TestID,TrainID,Distance,Judgment\n7,1,0.1,1\n3,9,0.2,0\n5,2,0.3,2\n7,8,0.4,1\n")

    assert near_duplicates.judged(path).tolist() == [3, 7]


def test_images_in_the_order_of_cifar_are_found_in_the_folders_of_their_classes() -> None:
    # The second and fourth image are of class 0, the others of class 1.
    labels = np.array([1, 0, 1, 0])
    files = ["test/a/0.jpg", "test/a/1.jpg", "test/b/0.jpg", "test/b/1.jpg"]

    assert near_duplicates.names_of(np.array([2, 3]), labels, files) == {"test/b/1.jpg", "test/a/1.jpg"}


def test_a_test_image_is_flagged_by_a_train_neighbor_only() -> None:
    neighbors = {"test/a/0": ["train/a/0"], "test/a/1": ["test/a/2"], "train/a/0": ["test/a/0", "train/a/1"]}

    assert near_duplicates.leaked(neighbors) == {"test/a/0"}


def test_found_and_flagged_are_counted() -> None:
    figures = near_duplicates.compared({"a", "b", "c"}, {"b", "c", "d", "e", "f"})

    # Precision 2/3 and recall 2/5: their harmonic mean is 1/2.
    assert figures == {"F1, %": pytest.approx(50), "found of 5": 2, "flagged": 3}


def test_the_product_of_standardized_images_is_their_correlation() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    one, other = near_duplicates.standardized(pixels)

    assert one @ other == pytest.approx(np.corrcoef(pixels.reshape(2, -1))[0, 1], abs=1e-5)


def test_a_brighter_image_has_the_same_perceptual_hash_and_its_negative_none_of_the_bits() -> None:
    pixels = np.random.default_rng(0).integers(0, 120, (1, 32, 32, 3), dtype=np.uint8)
    hashes = near_duplicates.perceptual_hash(np.concatenate([pixels, pixels + 100, 255 - pixels]))
    plain, brighter, negative = hashes

    assert plain @ brighter >= near_duplicates.same_bits(2)
    # The lowest frequency, the mean, is above the median in all three.
    assert plain @ negative <= near_duplicates.same_bits(62)
    assert near_duplicates.same_bits(0) == 1


def test_images_that_resemble_any_of_several_blocks_are_marked() -> None:
    test = np.eye(3, dtype=np.float32)
    blocks = [test[:1], np.array([[0, 0.6, 0.8]], np.float32)]

    assert near_duplicates.resembling(test, blocks, 0.8).tolist() == [True, False, True]


def test_a_plain_way_reads_the_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    one, other, third = generator.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for name, pixels in (("train/a/0", one), ("train/b/0", other), ("test/a/0", third), ("test/b/0", other)):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")

    found, _ = near_duplicates.plain(near_duplicates.standardized, 0.9)(Namespace(images=tmp_path))

    assert found == {"test/b/0.png"}


# --- wrong labels ------------------------------------------------------------------------------------


def test_a_label_is_rejected_if_fewer_than_three_of_five_chose_it(tmp_path: Path) -> None:
    path = tmp_path / "mturk.json"
    votes = {3: (3, 2, 0), 8: (2, 3, 0), 21: (2, 2, 1)}
    entries = [
        {"id": number, "mturk": dict(zip(("given", "guessed", "neither"), each, strict=True))}
        for number, each in votes.items()
    ]
    path.write_text(json.dumps(entries))

    assert wrong_labels.rejected(path).tolist() == [8, 21]


def test_flipped_labels_are_others_and_known() -> None:
    labels = np.arange(1000) % 10

    given, wrong = wrong_labels.flip(labels, 0.1, seed=3)

    assert wrong.sum() == 100
    assert ((given != labels) == wrong).all()
    assert set(given.tolist()) == set(range(10))
    assert (wrong_labels.flip(labels, 0.1, seed=3)[0] == given).all()
    assert (wrong_labels.flip(labels, 0.1, seed=4)[1] != wrong).any()


def test_precision_counts_the_wrong_among_as_many_of_the_first() -> None:
    wrong = np.array([True, False, True, False])

    assert wrong_labels.precision(np.array([2, 1, 0, 3]), wrong) == 50
    assert wrong_labels.precision(np.array([2, 0, 1, 3]), wrong) == 100


def test_the_last_place_counts_only_the_images_it_is_among() -> None:
    # Image 9 is first, but not of those that are counted: 4, 7, 5, 6 remain.
    ranking = np.array([9, 4, 7, 5, 6])

    assert wrong_labels.last_place(ranking, np.array([4, 5]), np.array([4, 5, 6, 7])) == 3


def test_a_published_dataset_is_read_train_before_test(tmp_path: Path) -> None:
    for name, value, count in (("train", 1, 3), ("t10k", 2, 2)):
        with gzip.open(tmp_path / f"{name}-images-idx3-ubyte.gz", "wb") as opened:
            opened.write(bytes(16) + bytes([value]) * (count * 784))
        with gzip.open(tmp_path / f"{name}-labels-idx1-ubyte.gz", "wb") as opened:
            opened.write(bytes(8) + bytes([value]) * count)

    pictures, labels = images.published(tmp_path)

    assert pictures.shape == (5, 1, 28, 28)
    assert pictures[:, 0, 0, 0].tolist() == labels.tolist() == [1, 1, 1, 2, 2]


def test_the_labels_needed_lie_between_two_trainings_on_the_line_over_their_logarithm() -> None:
    assert labels_needed.crossing([500, 1000, 4000], [0.5, 0.86, 0.9]) == pytest.approx(2000)
    assert labels_needed.crossing([1200], [0.95]) == 1200
