"""Everything that is done for speed, together, learns what a plain loop over plain layers learns.

Channels last, the fused optimizer, ReLU behind the pooling, normalization folded into one multiplication,
gathered batches and freed memory that is kept: against the network and the loop of the tutorials.
Tolerances: with weights in float64 1e-6 of every loss, as the loop sums losses in float32. In float32 the two
round differently, which Adam amplifies where gradients are tiny: 1e-3. In bf16 the forward pass has 8 bits of
precision: 5e-2 of the training losses, which are means over all batches of an epoch.
"""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn, optim
from torch.nn import functional as F

from darkroom.config.settings import Augment, Model, Train
from darkroom.data.batches import CPU, Split
from darkroom.data.cache import DatasetCard
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.training.fit import fit

MEAN = 0.3
STD = 0.37
CARD = DatasetCard("digits", tuple("0123456789"), (1, 8, 8), (MEAN,), (STD,), {}, {}, "")
SETTINGS = Train(epochs=4, batch_size=32, lr=3e-3, schedule="constant", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def digits() -> tuple[Split, Split]:
    published = load_digits()
    images = torch.from_numpy((published.images * (255 / 16)).round())[:, None].to(torch.uint8)
    labels = torch.from_numpy(published.target).long()
    return Split(images[:1200], labels[:1200]), Split(images[1200:1500], labels[1200:1500])


@pytest.fixture(scope="module")
def plain(digits) -> list[tuple[float, float]]:
    """The losses of the plain network in float32."""
    return plain_losses(plain_network(fast_network().state_dict()), *digits)


def fast_network() -> Classifier:
    torch.manual_seed(0)
    return build_classifier(Model(name="simple-cnn", filters=(8, 16), hidden=(32,), dropout=0.0), CARD)


def plain_network(weights: dict[str, Tensor]) -> nn.Module:
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    values = [value.contiguous() for name, value in weights.items() if name.startswith("network.")]
    network.load_state_dict(dict(zip(network.state_dict(), values, strict=True)))
    return network


def plain_losses(network: nn.Module, train: Split, val: Split) -> list[tuple[float, float]]:
    """The mean losses of each epoch, on both splits."""
    dtype = next(network.parameters()).dtype
    generator = torch.Generator().manual_seed(SETTINGS.seed)
    optimizer = optim.AdamW(network.parameters(), SETTINGS.lr, weight_decay=SETTINGS.weight_decay, foreach=False)
    losses = []
    for _ in range(SETTINGS.epochs):
        total = 0.0
        for rows in torch.randperm(len(train), generator=generator).split(SETTINGS.batch_size):
            inputs = (train.images[rows].to(dtype) / 255 - MEAN) / STD
            loss = F.cross_entropy(network(inputs), train.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        with torch.no_grad():
            judged = F.cross_entropy(network((val.images.to(dtype) / 255 - MEAN) / STD), val.labels).item()
        losses.append((total / len(train), judged))
    return losses


def fast_losses(network: Classifier, train: Split, val: Split, settings: Train) -> list[tuple[float, float]]:
    return [(epoch.train_loss, epoch.val_loss) for epoch in fit(network, train, val, settings, Augment(), CPU).history]


class Double(nn.Module):
    """A classifier in float64, which its own forward pass would round at both ends."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.network = classifier.network.double()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images.double() / 255 - MEAN) / STD)
        return logits


def test_in_float64_the_losses_are_the_same(digits) -> None:
    fast = fast_network()
    plain = plain_network(fast.state_dict()).double()
    found = [
        (epoch.train_loss, epoch.val_loss) for epoch in fit(Double(fast), *digits, SETTINGS, Augment(), CPU).history
    ]

    torch.testing.assert_close(torch.tensor(found), torch.tensor(plain_losses(plain, *digits)), rtol=1e-6, atol=0)


def test_in_float32_the_losses_stay_close(digits, plain) -> None:
    found = fast_losses(fast_network(), *digits, SETTINGS)

    torch.testing.assert_close(torch.tensor(found), torch.tensor(plain), rtol=1e-3, atol=0)
    assert found[-1][0] < 0.5 * found[0][0]  # it learned, so that being close means something


def test_in_bf16_the_training_losses_stay_close(digits, plain) -> None:
    found = fast_losses(fast_network(), *digits, SETTINGS.model_copy(update={"precision": "bf16"}))

    for (one, _), (other, _) in zip(found, plain, strict=True):
        assert one == pytest.approx(other, rel=5e-2)
