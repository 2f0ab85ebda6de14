"""Epochs of trials a second: one after another, and K of them as one program.

Trials differ in seed and learning rate; each trains on the first images of Fashion-MNIST at batch size 64, fast-cnn on
those of CIFAR-10 at 512, in the precision that ``auto`` takes. The first epoch of each way warms it up. On a GPU the
steps of K trials are captured in two ways, of which the faster one is used; both times of a step are recorded.
"""

import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.measurements.data import SMALL_IMAGES, data_of
from benchmarks.gpu.measurements.session import Session
from benchmarks.gpu.measurements.training import begin, in_fastest_precision
from benchmarks.machine import ROOT

from darkroom.config import load
from darkroom.search.fused.loop import FusedLoop, SingleLoop
from darkroom.training.cuda_graph import TIMED_STEPS, CudaGraphs
from darkroom.training.loop import TrainingLoop

COUNTS = (4, 8, 16)
ROUNDS = 3
ONE = "one after another"
RATE = "trial-epochs/s"
MODELS: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "mlp": ("MLP", "fashion-mnist", 64, {"model.name": "mlp"}),
    "simple-cnn": ("CNN", "fashion-mnist", 64, {"model.name": "simple-cnn"}),
    "fast-cnn": ("fast-cnn", "cifar10", 512, {"model.name": "fast-cnn"}),
}


def fused(model: str) -> Callable[[Session], None]:
    """``model`` is a key of MODELS."""
    name, dataset, batch, changes = MODELS[model]
    case = f"Trials, {name}"

    def measure(session: Session) -> None:
        data = data_of(session, dataset)
        size = SMALL_IMAGES if session.small else batch
        config = load(ROOT / "params.yaml").with_settings({"train.batch_size": size, "search.trials": 0} | changes)
        config = in_fastest_precision(session, config, data)

        def loop(number: int, *, warm: bool) -> TrainingLoop:
            own = config.with_settings({"train.seed": number, "train.lr": 1e-3 * (1 + number / 100)})
            return begin(session, own, data, warm=warm)

        single: SingleLoop[int] = SingleLoop()
        single.add(0, loop(0, warm=True))
        _measure(session, case, ONE, single, 1)
        for count in COUNTS[:1] if session.small else COUNTS:
            recorder = CudaGraphs() if session.device.type == "cuda" else None
            together: FusedLoop[int] = FusedLoop(recorder)
            for number in range(count):
                together.add(number, loop(number, warm=False))
            way = f"fused, K = {count}"
            _measure(session, case, way, together, count)
            for kind, seconds in together.step_seconds[0].items():
                session.results.add(case, f"{way}, {kind} steps", {"ms": 1000 * seconds / TIMED_STEPS})

    return measure


def _measure(session: Session, case: str, way: str, loop: "SingleLoop[int] | FusedLoop[int]", count: int) -> None:
    loop.run_epoch()
    for _ in session.repeats(ROUNDS):
        start = time.perf_counter()
        loop.run_epoch()  # which ends with reading the losses: the device is done
        session.results.add(case, way, {RATE: count / (time.perf_counter() - start)})
