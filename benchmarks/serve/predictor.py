"""How fast the predictor answers for image files on this CPU.

    python -m benchmarks.serve.predictor [--requests 200] [--rounds 3]

Conditions: `Predictor.predict` on PNG files of 28 x 28 pixels in the page cache, with the default CNN from its weights
file, in one process; reading, decoding and the answer's probabilities are in the time. Latency is that of one image a
request, after 20 that are not counted; throughput that of requests with 64 images.
"""

import time
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import numpy as np
from benchmarks import harness, images, project
from benchmarks.harness import Benchmark, Figures, run

WARM_UP = 20
MANY = 64


def predict(options: Namespace) -> Figures:
    from PIL import Image

    pictures, _ = images.read(MANY)
    paths = []
    for number, picture in enumerate(pictures):
        paths.append(Path(f"{number}.png"))
        Image.fromarray(picture[0]).save(paths[-1])
    predictor = _predictor()
    one = [_seconds(predictor, paths[:1]) for _ in range(WARM_UP + options.requests)][WARM_UP:]
    many = [_seconds(predictor, paths) for _ in range(max(1, options.requests // 10))]
    return {
        "ms, median, 1 image": float(np.percentile(one, 50)) * 1000,
        "ms, 95th percentile, 1 image": float(np.percentile(one, 95)) * 1000,
        "images/s, 64 images": MANY / float(np.median(many)),
    }


def _predictor():
    import torch

    from darkroom.config import load
    from darkroom.data.cache import DatasetCard
    from darkroom.models.card import ModelCard, save_card
    from darkroom.models.classifier import build_classifier
    from darkroom.models.files import save_weights
    from darkroom.models.registry import resolve
    from darkroom.prediction.predictor import Predictor
    from darkroom.workspace import Workspace

    project.write_params({})
    config = load(Path("params.yaml"))
    classes = tuple(str(number) for number in range(images.CLASSES))
    settings = {"dataset": {"name": "fashion-mnist"}, "preprocess": {}}
    card = DatasetCard("fashion-mnist", classes, (1, 28, 28), (0.286,), (0.353,), {}, settings, "0" * 64)
    torch.manual_seed(0)
    digest = save_weights(build_classifier(config.model, card), Path("model.safetensors"))
    settings = {"model": {"name": config.model.name, **resolve(config.model)}}
    save_card(ModelCard(asdict(card), settings, {}, {}, "", digest), Path("model.json"))
    return Predictor.from_weights(Path("model.safetensors"), None, config, Workspace())


def _seconds(predictor, paths: list[Path]) -> float:
    start = time.perf_counter()
    predictor.predict(paths)
    return time.perf_counter() - start


def main() -> None:
    parser = harness.arguments(__doc__, rounds=3)
    parser.add_argument("--requests", type=int, default=200, help="of one image each; a tenth as many of 64")
    options = parser.parse_args()
    conditions = {"requests": options.requests, "data": images.source()}
    jobs = {("", "Predictor, from files"): predict}
    run(Benchmark(title="Answers of the predictor", jobs=jobs, conditions=conditions), options)


if __name__ == "__main__":
    main()
