"""The evaluation stage asks the model about the test images that resemble others by their pixels."""

import json

import numpy as np
from tests.stages import run_stages

from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard, read_groups, write_groups, write_leaked


def test_a_zero_that_resembles_a_one_does_not_leak(trained, capsys):
    directory = trained / "data/processed/digits"
    card = DatasetCard.read(directory)
    train, test = (read_split(directory, card, name).labels.numpy() for name in ("train", "test"))
    zero, one = int(np.flatnonzero(test == 0)[0]), int(np.flatnonzero(train == 1)[0])
    groups = read_groups(directory, sum(card.sizes.values()))
    groups[card.sizes["train"] + card.sizes["val"] + zero] = groups[one]
    write_groups(directory, groups)
    write_leaked(directory, {"test": np.arange(len(test)) == zero})

    run_stages(trained, "evaluate")

    assert "1 test image resembles one in train or val by pixels, and the model tells them" in capsys.readouterr().err
    assert "leaked_images" not in json.loads((trained / "reports/evaluate/metrics.json").read_text(encoding="utf-8"))
