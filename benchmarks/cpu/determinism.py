"""What torch's deterministic algorithms cost a training on the CPU.

    python -m benchmarks.cpu.determinism [--images 20000] [--rounds 3]

Conditions: `darkroom train` on the CNN of training_cnn at batch 64, fp32, with and without
torch.use_deterministic_algorithms(True), everything else the same.
"""

from benchmarks import training, ways
from benchmarks.harness import Benchmark, run

WAYS = {"fit": ways.fit, "fit, deterministic": ways.fit_deterministic}


def main() -> None:
    options = training.arguments(__doc__).parse_args()
    run(
        Benchmark(
            title="Deterministic algorithms on the CPU",
            jobs=training.jobs("simple-cnn", WAYS, {64: list(WAYS)}),
            conditions=training.conditions(options),
            baselines=["fit"],
            goals=[{"case": "batch 64", "ratio": ["fit, deterministic", "fit"], "at_least": 0.9}],
        ),
        options,
    )


if __name__ == "__main__":
    main()
