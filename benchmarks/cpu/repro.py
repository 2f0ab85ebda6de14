"""`dvc repro` of the whole pipeline: from nothing, and again when nothing has changed.

    python -m benchmarks.cpu.repro [--rounds 3] [--trials 12]

Conditions: the project as it comes (digits, 12 trials of 10 epochs, 20 epochs) in a fresh git clone of the last
commit, the environment there, no MLflow store yet; then twice more without a change.
"""

import os
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

from benchmarks import harness, project
from benchmarks.harness import Benchmark, Figures, run
from benchmarks.machine import ROOT

UNCHANGED = 2


def repro(options: Namespace) -> Figures:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), "clone"], check=True)
    os.chdir("clone")
    project.write_params({"search.trials": options.trials}, Path("params.yaml"))
    return {"s, from nothing": _seconds(), "s, unchanged": [_seconds() for _ in range(UNCHANGED)]}


def _seconds() -> float:
    # The stages' commands are found beside the interpreter, also where its environment is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dvc", "repro"], check=True, env=os.environ | {"PATH": path})
    return time.perf_counter() - start


def main() -> None:
    parser = harness.arguments(__doc__, rounds=3)
    parser.add_argument("--trials", type=int, default=12, help="of the search")
    options = parser.parse_args()
    jobs = {("", "dvc repro"): repro}
    goals = [
        {"case": "", "name": "dvc repro", "unit": unit, "at_most": bound}
        for unit, bound in (("s, from nothing", 90), ("s, unchanged", 2))
    ]
    conditions = {"dataset": "digits", "trials": options.trials}
    run(Benchmark(title="The whole pipeline", jobs=jobs, conditions=conditions, goals=goals), options)


if __name__ == "__main__":
    main()
