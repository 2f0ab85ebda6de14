"""What heat maps show of trained models, and what they cost; prints the tables of docs/explanations.md.

    python -m benchmarks.heat_maps proofs [--data DIRECTORY --images 10000] [--seeds 3] [--epochs 8]
    python -m benchmarks.heat_maps price [--rounds 20]

`proofs` takes scikit-learn's digits, enlarged to 24x24 pixels, or with `--data` Fashion-MNIST. For each seed it takes
each network as trained on the images as they are, as trained on images of which those of one class have a white mark of
3x3 pixels, and with random weights.

- mark: of the test images of that class, with the mark, the share whose map peaks on it, for the network that learned
  the mark and, in brackets, for the one that did not. The mark is in another corner for each seed.
- random weights: the rank correlation (Spearman) of the maps of trained and of random weights; another training: that
  of two trainings, which differ in their seeds
- deletion: the area under the curve of the probability of the predicted class while the pixels, the hottest first,
  take the mean of the image, in 20 steps; beside it that of random pixels, and of the map of another test image. p is
  the larger one of Wilcoxon's signed-rank test of the two, one-sided, over the images of all seeds.

"by logits" is occlusion of the same network, as ONNX Runtime has it.

`price` measures a heat map of one image, of random weights, in milliseconds on all cores: the median of the rounds and
their range.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from benchmarks.images import published
from benchmarks.machine import conditions
from scipy.stats import spearmanr, wilcoxon
from sklearn.datasets import load_digits
from torch import Tensor

from darkroom.config import parse
from darkroom.config.settings import Model
from darkroom.data.batches import CPU, Split
from darkroom.data.cache import DatasetCard
from darkroom.errors import ModelError
from darkroom.explanation.explainer import Explainer
from darkroom.models.classifier import Classifier, build_classifier
from darkroom.training.fit import train_classifier

NETWORKS = {
    "mlp": {"name": "mlp", "hidden": [64]},
    "simple-cnn": {"name": "simple-cnn", "filters": [16, 32], "hidden": 64},
    "resnet (10, width 16)": {"name": "resnet", "depth": 10, "width": 16},
    "wide-resnet (10, x2)": {"name": "wide-resnet", "depth": 10, "widen_factor": 2},
    "fast-cnn": {"name": "fast-cnn", "filters": [16, 32, 32]},
}
# With the defaults of their architectures.
SMALL = [
    (name, {"name": name.partition(" ")[0]}, (1, 28, 28)) for name in ("mlp", "simple-cnn", "fast-cnn", "resnet (18)")
]
PHOTOGRAPHS = [
    (backbone, {"name": "pretrained", "train": "all", "backbone": backbone}, (3, 224, 224))
    for backbone in ("mobilenet_v3_small", "resnet18", "resnet50", "timm/vit_tiny_patch16_224", "vit_b_16")
]
MARKED = 7
EXPLAINED = 200
STEPS = 20


def with_mark(images: Tensor, corner: tuple[int, int]) -> Tensor:
    top, left = corner
    images = images.clone()
    images[:, :, top : top + 3, left : left + 3] = 255
    return images


def train(settings: dict[str, object], card: DatasetCard, images: Tensor, labels: Tensor, seed: int, epochs: int):
    schedule = {"epochs": epochs, "lr": 5e-3, "schedule": "one-cycle", "seed": seed, "device": "cpu"}
    config = parse({"model": settings, "train": schedule | {"precision": "fp32"}}, where="")
    splits = (Split(images[rows], labels[rows]) for rows in (slice(500, None), slice(500)))
    return train_classifier(config, card, *splits, CPU)[0].eval()


def by_logits(model: Classifier, shape: tuple[int, int, int]) -> Explainer:
    """Of the model's logits alone: what ONNX Runtime would give."""

    @torch.inference_mode()
    def logits(images: Tensor) -> Tensor:
        found: Tensor = model(images)
        return found

    return Explainer(lambda images: torch.from_numpy(logits(images).numpy()), shape)


def share_on_mark(explainer: Explainer, images: Tensor, labels: Tensor, corner: tuple[int, int]) -> float:
    peaks = explainer.explain(images.numpy(), labels.numpy()).reshape(len(images), -1).argmax(1)
    top, left = corner
    rows, columns = peaks // images.shape[3] - top, peaks % images.shape[3] - left
    return float(((rows >= 0) & (rows < 3) & (columns >= 0) & (columns < 3)).mean())


def likeness(some: np.ndarray, others: np.ndarray) -> float:
    """The mean rank correlation (Spearman) of maps [N, H, W] of the same images."""
    pairs = zip(some.reshape(len(some), -1), others.reshape(len(others), -1), strict=True)
    return float(np.nanmean([spearmanr(*pair).statistic for pair in pairs]))


@torch.no_grad()
def deletion(model: Classifier, images: Tensor, labels: Tensor, heat: np.ndarray) -> np.ndarray:
    place = torch.from_numpy(heat).flatten(1).argsort(1, descending=True).argsort(1).view(images.shape)
    gray = images.float().mean((2, 3), keepdim=True).to(torch.uint8)
    shares = torch.linspace(0, 1, STEPS + 1) * heat[0].size
    curve = [model(torch.where(place < share, gray, images)).softmax(1) for share in shares]
    return torch.stack(curve).mean(0).gather(1, labels[:, None])[:, 0].numpy()


def proofs(options: argparse.Namespace) -> None:
    if options.data:
        images, labels = map(torch.from_numpy, published(options.data / "fashion-mnist"))
        test = 10_000
    else:
        digits = load_digits()
        pixels = (digits.images * (255 / 16)).round().astype(np.uint8).repeat(3, 1).repeat(3, 2)
        images, labels, test = torch.from_numpy(pixels)[:, None], torch.from_numpy(digits.target.astype(np.int64)), 400
    train_images, train_labels = images[:-test][: options.images], labels[:-test][: options.images]
    test_images, test_labels = images[-test:], labels[-test:]
    side = images.shape[-1]
    corners = ((3, side - 5), (3, 2), (side - 5, side - 5), (side - 5, 2))
    shape = (1, side, side)
    scaled = train_images / 255
    names = tuple(map(str, range(10)))
    card = DatasetCard("proofs", names, shape, (scaled.mean().item(),), (scaled.std().item(),), {}, {}, "")
    measured = "accuracy | mark | random weights | another training | deletion | random pixels | other map | p"
    print(f"| network | maps | {measured} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in options.networks or NETWORKS:
        found: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
        for seed in range(options.seeds):
            corner = corners[seed % len(corners)]
            is_marked = (train_labels == MARKED)[:, None, None, None]
            marked_images = torch.where(is_marked, with_mark(train_images, corner), train_images)
            plain, marked, another = (
                train(NETWORKS[name], card, images, train_labels, its_seed, options.epochs)
                for images, its_seed in ((train_images, seed), (marked_images, seed), (train_images, seed + 1000))
            )
            torch.manual_seed(seed)
            random = build_classifier(Model.model_validate(NETWORKS[name]), card).eval()
            with torch.no_grad():
                predicted = plain(test_images[:2000]).argmax(1)
            some, labels = test_images[:EXPLAINED], predicted[:EXPLAINED]
            of_class = with_mark(test_images[test_labels == MARKED][:EXPLAINED], corner)
            theirs = torch.full((len(of_class),), MARKED)
            noise = np.random.default_rng(seed).random((len(some), side, side), np.float32)
            for way in ("layers", "logits") if name != "mlp" else ("logits",):
                explainers = [
                    Explainer(model, shape) if way == "layers" else by_logits(model, shape)
                    for model in (plain, marked, random, another)
                ]
                heat, of_random, of_another = (
                    explainers[number].explain(some.numpy(), labels.numpy()) for number in (0, 2, 3)
                )
                values = found[explainers[0].plan.method]
                values["accuracy"].append((predicted == test_labels[:2000]).float().mean().item())
                values["mark"].append(share_on_mark(explainers[1], of_class, theirs, corner))
                values["without"].append(share_on_mark(explainers[0], of_class, theirs, corner))
                values["random"].append(likeness(heat, of_random))
                values["another"].append(likeness(heat, of_another))
                for key, each in (("own", heat), ("noise", noise), ("other", np.roll(heat, 1, 0))):
                    values[key].extend(deletion(plain, some, labels, each))
        for method, values in found.items():
            p = max(wilcoxon(values["own"], values[key], alternative="less").pvalue for key in ("noise", "other"))
            areas = " | ".join(f"{np.mean(values[key]):.3f}" for key in ("own", "noise", "other"))
            accuracy, mark, without = (f"{np.mean(values[key]):.1%}" for key in ("accuracy", "mark", "without"))
            mark = f"{mark}, least {min(values['mark']):.1%} ({without})"
            alike = " | ".join(f"{np.mean(values[key]):.2f}" for key in ("random", "another"))
            print(f"| {name} | {method} | {accuracy} | {mark} | {alike} | {areas} | {p:.1e} |", flush=True)


def price(options: argparse.Namespace) -> None:
    print("| network | image | maps | ms | range |\n|---|---|---|---|---|")
    for name, settings, shape in (*SMALL, *PHOTOGRAPHS):
        mean = (0.5,) * shape[0]
        card = DatasetCard("noise", tuple(map(str, range(10))), shape, mean, mean, {}, {}, "")
        torch.manual_seed(0)
        model = build_classifier(Model.model_validate(settings), card).eval()
        line = f"| {name} | {shape[1]}x{shape[2]} |"
        try:
            explainer = Explainer(model, shape)
            print(line, *_cost(explainer, shape, options.rounds), flush=True)
            if explainer.plan.method == "layer-cam":
                print(line, *_cost(by_logits(model, shape), shape, options.rounds), flush=True)
        except ModelError as problem:
            print(line, problem, "|", flush=True)


def _cost(explainer: Explainer, shape: tuple[int, int, int], rounds: int) -> tuple[str, ...]:
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    plan = explainer.plan
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        explainer.explain(image, np.zeros(1, np.int64))
        found.append(1000 * (time.perf_counter() - start))
    passes = f", {1 + (plan.cells + 1) ** 2} passes" if plan.cells else ""
    return f"{plan.method}{passes} |", f"{np.median(found):.0f} |", f"{min(found):.0f} to {max(found):.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    proof = kinds.add_parser("proofs")
    proof.add_argument("--data", type=Path, help="the published archives, in fashion-mnist/; else the digits")
    proof.add_argument("--seeds", type=int, default=3)
    proof.add_argument("--images", type=int, default=10_000, help="of the train split")
    proof.add_argument("--epochs", type=int, default=8)
    proof.add_argument("--networks", nargs="*", choices=NETWORKS)
    proof.set_defaults(run=proofs)
    cost = kinds.add_parser("price")
    cost.add_argument("--rounds", type=int, default=20)
    cost.set_defaults(run=price)
    options = parser.parse_args()
    print(conditions())
    options.run(options)


if __name__ == "__main__":
    main()
