"""Occlusion: where a class is believed less once it is covered."""

import pytest
import torch
from torch import Tensor

from darkroom.explanation.occlusion import BATCH, occlude
from darkroom.explanation.score import log_odds, scaled

ZEROS = torch.zeros(1, dtype=torch.int64)


def noise(count: int, shape: tuple[int, int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)


def watching(row: int, column: int) -> object:
    """A model of two classes that looks at one pixel: the first class is what is bright there."""

    def model(images: Tensor) -> Tensor:
        bright = images[:, 0, row, column].float() / 32
        return torch.stack([bright, torch.zeros_like(bright)], 1)

    return model


def test_the_log_odds_are_those_of_the_probability() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 3.0]])
    labels = torch.tensor([2, 1])
    probability = logits.softmax(1)[[0, 1], labels]

    torch.testing.assert_close(log_odds(logits, labels), (probability / (1 - probability)).log())


def test_log_odds_still_change_where_a_probability_is_one() -> None:
    logits = torch.tensor([[200.0, 0.0], [300.0, 0.0]])

    assert log_odds(logits, torch.zeros(2, dtype=torch.int64)).tolist() == [200, 300]


def test_a_map_is_a_share_of_its_highest_value_and_nothing_speaks_against() -> None:
    heat = torch.tensor([[[4.0, -3.0], [1.0, 0.0]], [[-1.0, -2.0], [-3.0, -4.0]]])

    assert scaled(heat).tolist() == [[[1, 0], [0.25, 0]], [[0, 0], [0, 0]]]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (5, 9), (11, 19)])
def test_the_map_peaks_where_the_model_looks(row: int, column: int) -> None:
    image = torch.zeros(1, 3, 12, 20, dtype=torch.uint8)
    image[:, 0, row, column] = 255

    heat = occlude(watching(row, column), image, ZEROS, 6)[0]

    assert heat[row, column] == heat.max() > 0
    # A cell of six is 2 x 3 or 2 x 4 pixels, a window four times as large: nothing beyond the next cells was covered.
    rows, columns = torch.nonzero(heat, as_tuple=True)
    assert (rows - row).abs().max() <= 3
    assert (columns - column).abs().max() <= 7


def test_a_model_that_looks_at_nothing_has_an_empty_map() -> None:
    heat = occlude(lambda images: torch.zeros(len(images), 3), noise(2, (1, 9, 7)), torch.zeros(2, dtype=int), 4)

    assert heat.shape == (2, 9, 7)
    assert not heat.any()


def test_an_image_has_the_same_map_alone_and_in_company() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 10 * 8, 4)).eval()
    images, labels = noise(3, (3, 10, 8)), torch.tensor([1, 0, 3])

    together = occlude(lambda pixels: network(pixels / 255), images, labels, 4)
    alone = [
        occlude(lambda pixels: network(pixels / 255), images[[row]], labels[[row]], 4) for row in range(len(images))
    ]

    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cells", [1, 3, 8])
def test_every_pixel_lies_in_four_windows_and_each_is_run_once(cells: int) -> None:
    passed = []

    def model(images: Tensor) -> Tensor:
        passed.append(images)
        return torch.zeros(len(images), 2)

    image = torch.zeros(1, 1, 9, 8, dtype=torch.uint8)
    image[0, 0, 4, 4] = 255  # so that what is blurred is something else nearly everywhere
    occlude(model, image, ZEROS, cells)

    whole, *covered = passed
    assert len(whole) == 1
    assert sum(map(len, covered)) == (cells + 1) ** 2


def test_the_model_is_never_given_more_images_than_a_batch_holds() -> None:
    counts = []

    def model(images: Tensor) -> Tensor:
        counts.append(len(images))
        return torch.zeros(len(images), 2)

    for shape in ((1, 8, 8), (3, 224, 224)):  # the network may enlarge the small one
        occlude(model, noise(1, shape), ZEROS, 5)

    assert max(counts) == BATCH == 8


def test_what_is_covered_takes_the_mean_of_the_image() -> None:
    passed = []

    def model(images: Tensor) -> Tensor:
        passed.append(images)
        return torch.zeros(len(images), 2)

    image = torch.tensor([10, 20, 60, 110], dtype=torch.uint8).view(1, 2, 1, 2)
    occlude(model, image, ZEROS, 1)

    assert [channel.flatten().tolist() for channel in passed[1][0]] == [[15, 15], [85, 85]]


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 12, 8)])
def test_captum_covers_alike(shape: tuple[int, int, int]) -> None:
    """Its windows begin at the edge and ours half a window before it: what they share are the maps of disjoint ones."""
    from captum import attr

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(shape[0] * shape[1] * shape[2], 4)).eval()
    image, label = noise(1, shape), torch.tensor([2])
    window = (shape[0], shape[1] // 4, shape[2] // 4)

    def odds(pixels: Tensor) -> Tensor:
        return log_odds(network(pixels / 255), label.expand(len(pixels)))

    found = occlude(lambda pixels: network(pixels / 255), image, label, 4)[0]
    theirs = attr.Occlusion(odds).attribute(
        image.float(),
        (shape[0], 2 * window[1], 2 * window[2]),
        window,
        baselines=image.float().mean((2, 3), keepdim=True).round().expand(image.shape),
    )
    # Where theirs lie in as many windows as ours.
    inner = (slice(window[1], -window[1]), slice(window[2], -window[2]))
    torch.testing.assert_close(found[inner], theirs[0, 0][inner].float(), rtol=1e-4, atol=1e-4)
