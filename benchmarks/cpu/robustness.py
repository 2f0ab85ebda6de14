"""What it costs to evaluate a model on corrupted test images, beside one pass over them as they are.

    python -m benchmarks.cpu.robustness [--images 256] [--rounds 3]

Conditions: an untrained simple-cnn and made images (speed does not depend on either), --images small ones or a
sixteenth of them in the size of photographs, in one batch, after a batch of 8 that warms everything up. Seven
corruptions in five strengths are 35 passes, and the making of the images. The time is that of the processor in one
thread, which other work on the machine changes least.

- as they are: the logits of the images
- corrupted: `evaluate.corruptions: common`
"""

import time
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from benchmarks import harness
from benchmarks.harness import Benchmark, Figures, Job, run

if TYPE_CHECKING:
    from darkroom.data.batches import Split
    from darkroom.models.classifier import Classifier

BATCH = 512
FEWER = 16
CLASSES = 10
CASES = {"1x28x28": (1, 28, 28), "3x32x32": (3, 32, 32), "3x224x224": (3, 224, 224)}


def as_they_are(model: "Classifier", split: "Split") -> None:
    from darkroom.evaluation.logits import predict_logits

    predict_logits(model, split, BATCH)


def corrupted(model: "Classifier", split: "Split") -> None:
    from darkroom.data.batches import CPU
    from darkroom.evaluation.corrupted_images import measure_robustness

    measure_robustness(model, split, np.ones(len(split), bool), BATCH, CPU, lambda images: None)


WAYS: dict[str, Callable[["Classifier", "Split"], None]] = {"as they are": as_they_are, "corrupted": corrupted}


def evaluated(case: str, way: str) -> Job:
    def job(options: Namespace) -> Figures:
        import torch

        from darkroom.config.settings import Model
        from darkroom.data.batches import Split
        from darkroom.models.classifier import Classifier
        from darkroom.models.registry import build

        torch.set_num_threads(1)
        shape = CASES[case]
        count = options.images if shape[1] < 100 else options.images // FEWER
        images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
        split = Split(images, torch.zeros(count, dtype=torch.int64))
        mean = [0.5] * shape[0]
        model = Classifier(build(Model(name="simple-cnn"), shape, CLASSES), mean, mean).eval()
        WAYS[way](model, Split(images[:8], split.labels[:8]))
        start = time.process_time()
        WAYS[way](model, split)
        return {"ms an image": 1000 * (time.process_time() - start) / count}

    return job


def main() -> None:
    parser = harness.arguments(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=256, help="small images to evaluate")
    options = parser.parse_args()
    jobs = {(case, way): evaluated(case, way) for case in CASES for way in WAYS}
    conditions = {"images": options.images, "model": "simple-cnn", "time": "of the processor, in one thread"}
    run(Benchmark("Evaluation on corrupted images", jobs, conditions, baselines=["as they are"]), options)


if __name__ == "__main__":
    main()
