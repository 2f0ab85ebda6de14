"""Training a small MLP on the CPU, where what surrounds the arithmetic weighs most.

    python -m benchmarks.cpu.training_mlp [--images 20000] [--rounds 3]

Conditions: as in training_cnn, with dense layers 784-256-128-10 and without Ultralytics, which trains no such network.
"""

from benchmarks import training, ways
from benchmarks.training import peer

WAYS = {
    "tutorial": ways.tutorial,
    "bare loop": ways.bare,
    "bare loop, tuned": ways.tuned,
    "fit": ways.fit,
    "Lightning": peer("lightning"),
    "Keras": peer("keras"),
}
BATCHES = {64: list(WAYS), 256: list(WAYS)}
GOALS = [
    {"case": f"batch {batch}", "ratio": ["fit", other], "at_least": bound}
    for batch in BATCHES
    for other, bound in (("bare loop", 0.8), ("tutorial", 10.0))
]


def main() -> None:
    training.compare(__doc__, "Training a small MLP on the CPU", "mlp", WAYS, BATCHES, GOALS)


if __name__ == "__main__":
    main()
