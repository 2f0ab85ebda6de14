"""Lightning: a LightningModule, a DataLoader over tensors in memory, CSVLogger, everything else as by default.

By default it saves a checkpoint after the epoch and shows its progress. Timed from on_train_start, behind its
trial validation, to on_train_end.
"""

import time
from typing import Any

import lightning
import torch
from benchmarks.ways import LR, MEAN, STD, VALIDATION, WEIGHT_DECAY, Images, Labels, network
from lightning.pytorch.loggers import CSVLogger
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Classifier(lightning.LightningModule):
    def __init__(self, model: str) -> None:
        super().__init__()
        self.net = network(model)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net((images.float() / 255 - MEAN) / STD)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        self.log("val_accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), LR, weight_decay=WEIGHT_DECAY)


class Clock(lightning.Callback):
    def on_train_start(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self.start


def train(model: str, images: Images, labels: Labels, batch: int) -> dict[str, float]:
    lightning.seed_everything(0, verbose=False)
    data = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    validation = DataLoader(torch.utils.data.Subset(data, range(VALIDATION)), 1000)
    training = DataLoader(torch.utils.data.Subset(data, range(VALIDATION, len(data))), batch, shuffle=True)
    clock = Clock()
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=CSVLogger("."), callbacks=[clock])
    trainer.fit(Classifier(model), training, validation)
    return {"s": clock.seconds}
