"""Training a small CNN on the CPU: `darkroom train` beside the tutorial way, bare loops and other trainers.

    python -m benchmarks.cpu.training_cnn [--images 20000] [--rounds 3]

Conditions: Fashion-MNIST from data/raw (`darkroom download` with dataset.name fashion-mnist; made images of the same
shape without it), 3x3 convolutions 32 and 64 with pooling, dense 128, dropout 0.25; AdamW, fp32; one epoch and one
pass over 2,000 validation images, after 2,048 images that warm everything up. Each value is of a separate process.
Images a second count the training images over the time from the first batch to the end of validation, and of the
checkpoint and the logging where a way does them. Peak memory is that of the whole process, libraries included, and
of fit also that of logging the model; its other seconds are those of the epochs alone and of the whole command.

- tutorial: PIL images through torchvision's transforms and a DataLoader, at the tutorials' batch size only
- bare loop: indexed tensors; "tuned": the same in channels_last with the fused optimizer
- fit: the `darkroom train` command, with checkpoint, MLflow run and progress, in fp32 as the others
- fit, precision as chosen: the same with train.precision auto
- Lightning, Keras, Ultralytics: see peers/; they need the extra "bench"
"""

from benchmarks import training, ways
from benchmarks.training import peer

WAYS = {
    "tutorial": ways.tutorial,
    "bare loop": ways.bare,
    "bare loop, tuned": ways.tuned,
    "fit": ways.fit,
    "fit, precision as chosen": ways.fit_as_chosen,
    "Lightning": peer("lightning"),
    "Keras": peer("keras"),
    "Ultralytics": peer("ultralytics"),
}
OWN = ["bare loop", "bare loop, tuned", "fit", "fit, precision as chosen"]
BATCHES = {64: list(WAYS), 256: [*OWN, "Lightning", "Keras"], 512: OWN}
GOALS = [
    {"case": case, "ratio": ["fit", other], "at_least": bound}
    for case, other, bound in (
        ("batch 64", "bare loop, tuned", 1.15),
        ("batch 64", "Lightning", 1.25),
        ("batch 64", "Keras", 1.9),
        ("batch 64", "tutorial", 1.9),
        ("batch 256", "bare loop", 1.6),
        ("batch 512", "bare loop", 1.9),
    )
]


def main() -> None:
    training.compare(__doc__, "Training a small CNN on the CPU", "simple-cnn", WAYS, BATCHES, GOALS)


if __name__ == "__main__":
    main()
