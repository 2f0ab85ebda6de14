"""Every figure of training on a GPU, in one process that ends by itself.

    make gpu-cargo
    python -m benchmarks.gpu.day --data build/gpu-cargo --airbench build/gpu-cargo/airbench94_muon.py [--seconds 530]
    python -m benchmarks.gpu.day --data build/gpu-cargo --device cpu --small --results build

Conditions: those that each module of gpu/measurements tells in its first lines. It needs torch, and of this project's
other packages those that `make gpu-cargo` has packed; no MLflow. Measurements for which there is no time are left out,
and a failed one does not stop the others. results/day.json is rewritten after every training, so an aborted run keeps
what it has measured. CIFAR-10 is read from the JPEG archive, by airbench too. The last command shows whether everything
works on a machine without a GPU.
"""

import argparse
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import torch
from benchmarks import machine
from benchmarks.gpu.measurements import correctness, data, fused, loops, precision, speedruns, steps
from benchmarks.gpu.measurements.session import Measurement, Results, Session, take
from benchmarks.harness import RESULTS
from benchmarks.machine import ROOT

PLACE = ROOT / "build" / "gpu-day"
DATA = "data of "
DATASETS = {"mnist": 5, "fashion-mnist": 5, "cifar10": 30}
# In this order. The seconds are estimates for one H100 with 16 processor cores.
MEASUREMENTS = (
    *(Measurement(f"{DATA}{name}", seconds, data.prepare(name)) for name, seconds in DATASETS.items()),
    Measurement("tests", 45, correctness.tests),
    Measurement("mnist-99", 15, speedruns.speedrun("mnist-99", 10, case="MNIST")),
    Measurement("mnist-995", 20, speedruns.speedrun("mnist-995", 10, case="MNIST")),
    Measurement("airbench", 110, speedruns.airbench),
    Measurement("cifar10-fast", 60, speedruns.speedrun("cifar10-fast", 10, case="CIFAR-10")),
    Measurement(
        "cifar10-fast, compiled", 100, speedruns.speedrun("cifar10-fast", 10, case="CIFAR-10", compile_mode="default")
    ),
    Measurement("fashion-mnist-94", 60, speedruns.speedrun("fashion-mnist-94", 10, case="Fashion-MNIST")),
    Measurement("fused MLP", 15, fused.fused("mlp")),
    Measurement("fused CNN", 20, fused.fused("simple-cnn")),
    Measurement("fused fast-cnn", 30, fused.fused("fast-cnn")),
    Measurement("fit", 60, loops.fit_beside_bare_loop),
    Measurement("precision", 30, precision.choices),
    Measurement("modes", 60, steps.modes),
    Measurement("kernels", 15, steps.kernels),
    Measurement(
        "cifar10-fast, max-autotune",
        120,
        speedruns.speedrun("cifar10-fast", 10, case="CIFAR-10", compile_mode="max-autotune"),
    ),
    Measurement("cifar10-best", 60, speedruns.speedrun("cifar10-best", 1, case="CIFAR-10")),
)
TTA = f"{speedruns.ACCURACY}, flip-translate"
GOALS = (
    {"case": "CIFAR-10", "ratio": ["cifar10-fast", speedruns.AIRBENCH], "unit": speedruns.SECONDS, "at_most": 1.0},
    {"case": "CIFAR-10", "name": "cifar10-fast", "unit": TTA, "at_least": 94},
    {"case": "MNIST", "name": "mnist-99", "unit": speedruns.ACCURACY, "at_least": 99},
    {"case": "MNIST", "name": "mnist-99", "unit": speedruns.EPOCH, "at_most": 0.2},
    {"case": "MNIST", "name": "mnist-995", "unit": speedruns.ACCURACY, "at_least": 99.5},
    {"case": "Fashion-MNIST", "name": "fashion-mnist-94", "unit": f"{speedruns.ACCURACY}, flip", "at_least": 94},
    {"case": "Trials, MLP", "ratio": ["fused, K = 16", fused.ONE], "at_least": 8},
    {"case": "Trials, CNN", "ratio": ["fused, K = 16", fused.ONE], "at_least": 4},
    *(
        {"case": loops.case(batch), "ratio": ["fit", loops.BARE], "unit": loops.SPEED, "at_least": 0.95}
        for batch in loops.BATCHES
    ),
    *(
        {"case": precision.case(*chosen), "ratio": [precision.AUTO, precision.FASTEST], "at_least": 0.97}
        for chosen in product(precision.MODELS, precision.BATCHES)
    ),
    {"case": f"{steps.CASE}, profiled", "name": "captured", "unit": "% idle", "at_most": 5},
)
QUERY = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="what `make gpu-cargo` has packed, or a mirror")
    parser.add_argument("--seconds", type=float, default=530, help="time limit")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="one short training each, to see that it works")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where day.json goes")
    parser.add_argument("--airbench", type=lambda path: Path(path).resolve(strict=True), help=speedruns.AIRBENCH)
    parser.add_argument("--only", nargs="+", choices=[each.name for each in MEASUREMENTS], metavar="NAME")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: there is no CUDA GPU on this machine; --device cpu --small shows whether the script works")
    shutil.rmtree(PLACE, ignore_errors=True)
    results = Results(options.results / "day.json", "Training on one GPU", _conditions(options), GOALS)
    session = Session(
        options.data.resolve(),
        PLACE,
        torch.device(options.device),
        results,
        deadline,
        small=options.small,
        airbench=options.airbench,
    )
    wanted = options.only or [each.name for each in MEASUREMENTS]
    chosen = [each for each in MEASUREMENTS if each.name in wanted or each.name.startswith(DATA)]
    take(session, chosen)
    print(f"{results.path} is written", flush=True)
    if results.has_failures:
        sys.exit(1)


def _conditions(options: argparse.Namespace) -> dict[str, object]:
    found = {"device": options.device, "seconds": options.seconds, **machine.conditions()}
    if options.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu_memory_gib": round(properties.total_memory / (1 << 30), 1), "cuda": torch.version.cuda}
        asked = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
        found["nvidia_smi"] = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    return found


if __name__ == "__main__":
    main()
