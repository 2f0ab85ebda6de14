"""Keras on its torch backend: a Sequential model, arrays in memory, fit, CSVLogger, everything else as by default.

By default its images are channels_last and it saves no checkpoint. Timed from on_train_begin to on_train_end.
"""

import os
import time
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_HOME"] = "keras"  # in the job's own directory: a person's settings must not count

import keras
from benchmarks.ways import LR, MEAN, STD, VALIDATION, WEIGHT_DECAY, Images, Labels
from keras import layers


def network(model: str) -> keras.Sequential:
    inputs = [layers.Input((28, 28, 1)), layers.Rescaling(1 / (255 * STD), offset=-MEAN / STD)]
    if model == "mlp":
        hidden = [layers.Flatten(), layers.Dense(256, activation="relu"), layers.Dense(128, activation="relu")]
    else:
        hidden = [
            layers.Conv2D(32, 3, padding="same", activation="relu"), layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"), layers.MaxPooling2D(),
            layers.Flatten(), layers.Dropout(0.25), layers.Dense(128, activation="relu"), layers.Dropout(0.25),
        ]  # fmt: skip
    return keras.Sequential([*inputs, *hidden, layers.Dense(10)])


class Clock(keras.callbacks.Callback):
    def on_train_begin(self, logs: Any = None) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, logs: Any = None) -> None:
        self.seconds = time.perf_counter() - self.start


def train(model: str, images: Images, labels: Labels, batch: int) -> dict[str, float]:
    keras.utils.set_random_seed(0)
    pictures = images.transpose(0, 2, 3, 1)
    net = network(model)
    net.compile(
        optimizer=keras.optimizers.AdamW(LR, weight_decay=WEIGHT_DECAY),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    clock = Clock()
    net.fit(
        pictures[VALIDATION:],
        labels[VALIDATION:],
        batch_size=batch,
        epochs=1,
        validation_data=(pictures[:VALIDATION], labels[:VALIDATION]),
        validation_batch_size=1000,
        callbacks=[keras.callbacks.CSVLogger("training.csv"), clock],
    )
    return {"s": clock.seconds}
