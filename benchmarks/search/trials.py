"""How fast a search goes, and how much of its time is not training.

    python -m benchmarks.search.trials [--trials 6] [--rounds 3]

Conditions: `darkroom search` on digits with the default network, space, pruner and 10 epochs a trial, on the CPU, into
a new MLflow store, none trained again with other seeds. Trials a second are over the whole command, behind the imports;
time outside training is what is left of it without the workers' rounds.
"""

import time
from argparse import Namespace

from benchmarks import harness, project
from benchmarks.harness import Benchmark, Figures, run


def search(options: Namespace) -> Figures:
    project.write_params(
        {
            "search.trials": options.trials,
            "search.epochs": options.epochs,
            "search.finalists": 0,
            "train.device": "cpu",
        }
    )
    project.darkroom("download")
    project.darkroom("preprocess")
    from darkroom.search.worker import Worker

    with project.timed(Worker, "advance") as seconds:
        start = time.perf_counter()
        project.darkroom("search")
        whole = time.perf_counter() - start
    return {"trials/s": options.trials / whole, "%, outside training": 100 * (1 - sum(seconds) / whole)}


def main() -> None:
    parser = harness.arguments(__doc__, rounds=3)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=10, help="of each trial")
    options = parser.parse_args()
    conditions = {"dataset": "digits", "trials": options.trials, "epochs": options.epochs}
    jobs = {("", "darkroom search"): search}
    run(Benchmark(title="Trials of a search", jobs=jobs, conditions=conditions), options)


if __name__ == "__main__":
    main()
