"""A few photographs and pretrained weights: the recipes beside fastai, timm's training script and Ultralytics.

    python -m benchmarks.photos.finetuning --images ants-bees --weights tf_efficientnet_lite0.safetensors
        [--epochs 5] [--timm train.py] [--rounds 3]

Conditions: a directory with train/CLASS/ and test/CLASS/, and the weights of timm's tf_efficientnet_lite0 in a file.
Every way begins with these weights, learns from train and is measured on test, once and in the end. Each round has
another seed. "s" are those of all that a person waits for, from the files to the trained model, behind the imports.

- photos, photos-finetune: the recipes, from `darkroom download` to `darkroom train`; a fifth of train chooses
- logistic regression: scikit-learn's, C=0.01, on the standardized features that timm's eager model gives
- fastai: vision_learner and fine_tune with its usual augmentation; a fifth of train is held out
- timm: its train.py, of the repository (pip does not bring it); AdamW, rate 0.0003, smoothing 0.1
- Ultralytics: its classification trainer with its defaults, on the network of the others
- The last three train for --epochs epochs, fastai one more with the body frozen, in fp32 and without selection by test.
"""

import csv
import json
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

from benchmarks import harness, project
from benchmarks.harness import Benchmark, Figures, Job, NotHere, run
from benchmarks.machine import ROOT
from benchmarks.photographs import ACCURACY, MODEL, SIDE, accuracy, classes, files, opened
from benchmarks.training import peer

STAGES = ("download", "preprocess", "search", "train")
LOGISTIC = "logistic regression"


def recipe(name: str) -> Job:
    """`darkroom` with the recipe ``name``."""

    def job(options: Namespace) -> Figures:
        from darkroom.commands.params.template import render
        from darkroom.config.bounded_yaml import read_yaml

        settings = read_yaml(ROOT / "recipes" / f"{name}.yaml")
        settings["dataset"]["path"] = str(options.images)
        settings["model"]["weights_path"] = str(options.weights)
        settings["train"]["seed"] = options.round
        Path("params.yaml").write_text(render(settings), encoding="utf-8")
        start = time.perf_counter()
        for stage in STAGES:
            project.darkroom(stage)
        seconds = time.perf_counter() - start
        project.darkroom("evaluate")
        found = json.loads(Path("reports/evaluate/metrics.json").read_text(encoding="utf-8"))
        return {ACCURACY: 100 * found["accuracy"], "s": seconds}

    return job


def logistic_regression(options: Namespace) -> Figures:
    import numpy as np
    import timm
    import torch
    from sklearn.linear_model import LogisticRegression
    from timm.data import create_transform, resolve_data_config

    start = time.perf_counter()
    model = timm.create_model(
        MODEL, num_classes=0, pretrained=True, pretrained_cfg_overlay={"file": str(options.weights)}
    )
    model.eval()
    transform = create_transform(**resolve_data_config({}, model=model))

    def features(split: str) -> tuple[np.ndarray, np.ndarray]:
        paths, labels = files(options.images / split)
        with torch.inference_mode():
            return np.concatenate([model(transform(each)[None]).numpy() for each in opened(paths)]), labels

    train, labels = features("train")
    mean, scale = train.mean(0), train.std()
    head = LogisticRegression(C=0.01, max_iter=1000).fit((train - mean) / scale, labels)
    seconds = time.perf_counter() - start
    test, expected = features("test")
    return {ACCURACY: accuracy(head.predict((test - mean) / scale), expected), "s": seconds}


def timm_script(options: Namespace) -> Figures:
    if options.timm is None:
        raise NotHere("--timm names no train.py")
    command = [
        sys.executable, options.timm, "--data-dir", options.images, "--train-split", "train", "--val-split", "test",
        "--model", MODEL, "--pretrained", "--pretrained-path", options.weights, "--input-size", 3, SIDE, SIDE,
        "--num-classes", len(classes(options.images)), "--device", "cpu", "--workers", 0, "--no-prefetcher",
        "--batch-size", 32, "--opt", "adamw", "--lr", 3e-4, "--weight-decay", 0.05, "--warmup-epochs", 1,
        "--smoothing", 0.1, "--epochs", options.epochs, "--cooldown-epochs", 0, "--seed", options.round,
        "--output", "out", "--experiment", "one",
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
    seconds = time.perf_counter() - start
    with Path("out/one/summary.csv").open(encoding="utf-8", newline="") as opened:
        *_, last = csv.DictReader(opened)
    return {ACCURACY: float(last["eval_top1"]), "s": seconds}


def main() -> None:
    parser = harness.arguments(__doc__, rounds=3)
    parser.add_argument("--images", type=_there, required=True, help="a directory with train/CLASS/ and test/CLASS/")
    parser.add_argument("--weights", type=_there, required=True, help=f"of timm's {MODEL}, as safetensors")
    parser.add_argument("--epochs", type=int, default=5, help="of those that train the whole network")
    parser.add_argument("--timm", type=_there, help="train.py of timm's repository")
    options = parser.parse_args()
    ways = {
        "photos": recipe("photos"),
        "photos-finetune": recipe("photos-finetune"),
        LOGISTIC: logistic_regression,
        "fastai": peer("fastai"),
        "timm": timm_script,
        "Ultralytics": peer("ultralytics_photos"),
    }
    counts = {split: len(files(options.images / split)[1]) for split in ("train", "test")}
    conditions = {"images": options.images.name, **counts, "epochs": options.epochs}
    goals = [{"case": "", "ratio": ["photos", other], "unit": ACCURACY, "at_least": 1} for other in list(ways)[2:]]
    jobs = {("", name): job for name, job in ways.items()}
    run(Benchmark("A few photographs", jobs, conditions, baselines=[LOGISTIC], goals=goals), options)


def _there(path: str) -> Path:
    return Path(path).resolve(strict=True)


if __name__ == "__main__":
    main()
