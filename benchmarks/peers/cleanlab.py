"""cleanlab: its rankings of labels by probabilities, and the recipe of its tutorial on images to get them.

The network, its optimizer and batches are those of docs/source/tutorials/datalab/image.ipynb, which trains it for 2
epochs in 3 folds, for a quick run, and recommends 5 or 10 folds and more epochs.
"""

import numpy as np
import torch
from benchmarks.ways import Images, Labels
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold
from torch import nn

EPOCHS = 5
BATCH = 64
CLASSES = 10


def rankings(probabilities: NDArray[np.float64], labels: Labels) -> dict[str, NDArray[np.int64]]:
    """All images [N] by cleanlab's score of their labels, and those first that it calls issues, both by default."""
    scores = get_label_quality_scores(labels, probabilities)
    are_issues = find_label_issues(labels, probabilities)
    return {
        "cleanlab's score": np.argsort(scores, kind="stable"),
        "cleanlab's issues": np.lexsort((scores, ~are_issues)),
    }


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.BatchNorm2d(6), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5, bias=False), nn.ReLU(), nn.BatchNorm2d(16), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, CLASSES),
    )  # fmt: skip


def logits(images: Images, labels: Labels, folds: int, seed: int, epochs: int = EPOCHS) -> NDArray[np.float64]:
    """What a network says of each image that has not seen it, [N, classes]."""
    torch.manual_seed(seed)
    found = np.empty((len(labels), CLASSES))
    pixels, targets = torch.from_numpy(images).float() / 255, torch.from_numpy(labels)
    for train, held_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels):
        net = network()
        optimizer = torch.optim.AdamW(net.parameters())
        for _ in range(epochs):
            for rows in torch.from_numpy(train)[torch.randperm(len(train))].split(BATCH):
                loss = nn.functional.cross_entropy(net(pixels[rows]), targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        net.eval()
        with torch.no_grad():
            for rows in torch.from_numpy(held_out).split(512):
                found[rows.numpy()] = net(pixels[rows]).numpy()
    return found
