"""What `train.precision: auto` chooses, beside each precision that the device has units for.

Images a second of a pass over the first images of Fashion-MNIST, without validation; the pass before it warms up. Each
precision has a training of its own, auto has another one, and they take turns.
"""

import time

from benchmarks.gpu.measurements.data import SMALL_IMAGES, data_of
from benchmarks.gpu.measurements.session import Session
from benchmarks.gpu.measurements.training import begin, in_fastest_precision
from benchmarks.harness import summary
from benchmarks.machine import ROOT

from darkroom.config import load
from darkroom.training.device import precisions

SPEED = "images/s"
AUTO, FASTEST = "auto", "the fastest"
MODELS = {"mlp": "MLP", "simple-cnn": "CNN"}
BATCHES = (64, 512)
ROUNDS = 5


def choices(session: Session) -> None:
    data = data_of(session, "fashion-mnist")
    for model in MODELS:
        for batch in BATCHES:
            settings = {"model.name": model, "train.batch_size": SMALL_IMAGES if session.small else batch}
            config = load(ROOT / "params.yaml").with_settings(settings)
            ways = {name: config.with_settings({"train.precision": name}) for name in precisions(session.device)}
            ways[AUTO] = in_fastest_precision(session, config, data)
            loops = {way: begin(session, own, data) for way, own in ways.items()}
            speeds: dict[str, list[float]] = {way: [] for way in ways}
            for loop in loops.values():
                loop.train_pass()
            for _ in session.repeats(ROUNDS):
                for way, loop in loops.items():
                    start = time.perf_counter()
                    loop.train_pass()  # which ends with reading the loss: the device is done
                    speeds[way].append(loop.batches.images / (time.perf_counter() - start))
            for way, found in speeds.items():
                session.results.add(case(model, batch), way, {SPEED: found})
            fixed = [found for way, found in speeds.items() if way != AUTO]
            session.results.add(case(model, batch), FASTEST, {SPEED: max(fixed, key=_median)})


def case(model: str, batch: int) -> str:
    return f"Precision of the {MODELS[model]}, batch {batch}"


def _median(values: list[float]) -> float:
    return summary(values)["median"]
