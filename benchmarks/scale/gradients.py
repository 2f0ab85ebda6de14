"""How two processes add up their gradients: by torch's DistributedDataParallel, as here, or in one message.

    python -m benchmarks.scale.gradients [--rounds 1]

Conditions: two gloo processes on the CPU with half of the cores each, fp32, AdamW, made images, batch normalization
over the whole batch in every way. In a round the same two processes take a few steps with one message and then as many
with DistributedDataParallel, seven times and every second time in reverse, so that other work meets both. A value is
the time of these steps with DistributedDataParallel over that of the steps with one message beside them.

- DDP: DistributedDataParallel, which adds up parts of the gradients during the backward pass
- DDP, unused: with find_unused_parameters, as here: weights that are frozen later, or that no image reaches, need it
"""

import json
import time
from argparse import Namespace
from pathlib import Path

import torch
from benchmarks.harness import Benchmark, Figures, Job, arguments, run
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from darkroom.training.launch import launch
from darkroom.training.process_group import joined
from darkroom.training.ranks import Ranks
from darkroom.training.whole_batch import WholeBatch

PROCESSES = 2
TURNS = 7
CLASSES = 10
# Images of a batch, their shape, and the steps of a turn.
CASES = {
    "simple CNN, 28x28, batch 128": (128, (1, 28, 28), 10),
    "EfficientNet-Lite0, 96x96, batch 16": (16, (3, 96, 96), 3),
}
WAYS = ("DDP", "DDP, unused")


def network(case: str) -> nn.Module:
    if case.startswith("simple CNN"):
        from benchmarks import ways

        return ways.network("simple-cnn")
    import timm

    made: nn.Module = timm.create_model("efficientnet_lite0", num_classes=CLASSES)
    return made


class _Step:
    """A training step of a network of its own, in one of the processes."""

    def __init__(self, case: str, ranks: Ranks, *, is_own: bool, finds_unused: bool = False) -> None:
        torch.manual_seed(0)
        batch, shape, _ = CASES[case]
        self.ranks = ranks
        self.is_own = is_own
        self.model = network(case).to(memory_format=torch.channels_last)
        self.forward = self.model
        # DistributedDataParallel divides sums of gradients by the number of processes.
        self.weight = batch if is_own else batch / ranks.count
        if not is_own:
            self.forward = DistributedDataParallel(self.model, find_unused_parameters=finds_unused)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True)
        self.images = torch.randn(batch, *shape).contiguous(memory_format=torch.channels_last).chunk(ranks.count)
        self.labels = torch.arange(batch).remainder(CLASSES).chunk(ranks.count)

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        with WholeBatch(self.ranks):
            logits = self.forward(self.images[self.ranks.rank])
        losses = F.cross_entropy(logits, self.labels[self.ranks.rank], reduction="sum")
        (losses / self.weight).backward()
        if self.is_own:
            self.ranks.add_up([weight.grad for weight in self.model.parameters() if weight.grad is not None])
        self.optimizer.step()

    def seconds(self, count: int) -> tuple[float, float]:
        """Of ``count`` steps: by the clock, and of the processors in all processes."""
        start, used = time.perf_counter(), time.process_time()
        for _ in range(count):
            self()
        clock = time.perf_counter() - start
        return clock, sum(self.ranks.gather(time.process_time() - used))


def compare(case: str, way: str, answer: Path) -> None:
    """Measure in one of the processes; the first writes to ``answer``."""
    count = CASES[case][2]
    found: list[tuple[float, float, float]] = []
    with joined(torch.device("cpu")) as (ranks, _):
        own = _Step(case, ranks, is_own=True)
        other = _Step(case, ranks, is_own=False, finds_unused=way == "DDP, unused")
        for step in (own, other):
            step.seconds(2)  # to warm up
        for turn in range(TURNS):
            steps = (own, other) if turn % 2 == 0 else (other, own)
            took = {step: step.seconds(count) for step in steps}
            clock, processors = (theirs / ours for theirs, ours in zip(took[other], took[own], strict=True))
            found.append((clock, processors, 1000 * took[own][0] / count))
        if ranks.is_first:
            answer.write_text(json.dumps(found), encoding="utf-8")


def shared(case: str, way: str) -> Job:
    def job(options: Namespace) -> Figures:
        if "Net" in case:
            import timm  # noqa: F401  # is it here at all?
        answer = Path("answer.json").resolve()
        launch(PROCESSES, compare, case, way, answer)
        clock, processors, step = map(list, zip(*json.loads(answer.read_text(encoding="utf-8")), strict=True))
        return {
            "times one message's seconds": clock,
            "times one message's processor seconds": processors,
            "ms a step, one message": step,
        }

    return job


def main() -> None:
    options = arguments(__doc__, rounds=1).parse_args()
    jobs = {(case, way): shared(case, way) for case in CASES for way in WAYS}
    conditions = {"processes": PROCESSES, "precision": "fp32", "optimizer": "AdamW", "data": "made images"}
    run(Benchmark("DistributedDataParallel beside one message of gradients", jobs, conditions), options)


if __name__ == "__main__":
    main()
