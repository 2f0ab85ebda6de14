"""What makes a training step on the CPU faster, one thing after the other, and what it costs in memory.

    python -m benchmarks.cpu.step [--images 20000] [--rounds 3]

Conditions: the CNN of training_cnn, one epoch over images in memory without validation, in fp32 but for the last way,
after 2,048 images that warm everything up. Each way has what the ways before it have:

- plain: a bare loop over indexed tensors, AdamW
- channels_last, fused optimizer
- ReLU behind the pooling: the same numbers at a quarter of its work
- freed memory kept: glibc gives no memory back and maps none, see darkroom.utils.allocator
- dropout from 16-bit draws: see darkroom.models.dropout
- bf16: the forward pass in autocast, where the processor computes in it
"""

import time
from argparse import Namespace

from benchmarks import images, training, ways
from benchmarks.harness import Benchmark, Figures, Job, NotHere, run
from benchmarks.machine import peak_memory

STEPS = (
    "plain",
    "channels_last, fused optimizer",
    "ReLU behind the pooling",
    "freed memory kept",
    "dropout from 16-bit draws",
    "bf16",
)
BATCHES = (64, 256, 512)


def epoch(level: int, batch: int) -> Job:
    def job(options: Namespace) -> Figures:
        import torch
        from torch import nn

        from darkroom.config.settings import Train
        from darkroom.models.dropout import Dropout
        from darkroom.training.device import autocast, choose_precision
        from darkroom.utils.allocator import keep_freed_memory

        on = dict(zip(STEPS, (number <= level for number in range(len(STEPS))), strict=True))
        device = torch.device("cpu")
        if on["bf16"] and choose_precision(Train(), device) == "fp32":
            raise NotHere("this processor does not compute in bf16")
        if on["freed memory kept"]:
            keep_freed_memory()
        layers = list(ways.network("simple-cnn"))
        if on["ReLU behind the pooling"]:
            for place in (1, 4):
                layers[place], layers[place + 1] = layers[place + 1], layers[place]
        if on["dropout from 16-bit draws"]:
            layers = [Dropout(layer.p) if isinstance(layer, nn.Dropout) else layer for layer in layers]
        net = nn.Sequential(*layers)
        tuned = on["channels_last, fused optimizer"]
        if tuned:
            net = net.to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(net.parameters(), ways.LR, weight_decay=ways.WEIGHT_DECAY, fused=tuned)
        inputs, labels = map(torch.from_numpy, images.read(options.images))

        def train(count: int) -> None:
            for rows in torch.randperm(count).split(batch):
                with autocast(device, "bf16" if on["bf16"] else "fp32"):
                    logits = net((inputs[rows].float() / 255 - ways.MEAN) / ways.STD)
                loss = nn.functional.cross_entropy(logits.float(), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        train(training.WARM_UP_IMAGES)
        start = time.perf_counter()
        train(options.images)
        return {training.SPEED: options.images / (time.perf_counter() - start), "MiB, peak": peak_memory()}

    return job


def main() -> None:
    options = training.arguments(__doc__).parse_args()
    jobs = {(f"batch {batch}", way): epoch(level, batch) for batch in BATCHES for level, way in enumerate(STEPS)}
    conditions = {"data": images.source(), "images": options.images}
    run(Benchmark("What makes a step on the CPU faster", jobs, conditions, baselines=["plain"]), options)


if __name__ == "__main__":
    main()
