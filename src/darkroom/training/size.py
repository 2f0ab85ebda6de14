"""The memory and the time that a model and its training need, estimated before any work begins."""

import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from darkroom.config import Config
from darkroom.config.settings import Model, Train
from darkroom.data.cache import DatasetCard
from darkroom.errors import ModelError
from darkroom.models import registry
from darkroom.models.architecture import Shape
from darkroom.utils.memory import free_bytes, total_bytes
from darkroom.utils.units import GIBIBYTE

# Bytes of a float32.
FLOAT = 4
# Copies of the weights that an optimizer keeps: the averages of Adam, a momentum of the others.
STATES = {"adam": 2, "adamw": 2, "sgd": 1, "muon": 1}
# A step computes the gradients by the inputs and by the weights, each at the price of the forward pass.
PASSES = 3
# The time of an epoch that takes this long or longer is reported.
LONG_EPOCH_SECONDS = 600.0
# An epoch of fewer operations takes less.
QUICK_EPOCH_OPERATIONS = 1e12
# The settings that decide how large a model is.
SIZES = ("filters", "hidden", "depth", "width", "widen_factor", "backbone")


@dataclass(frozen=True)
class CostPerImage:
    """What one image takes: ``outputs``, the numbers that all layers give, and ``operations``, the floating-point
    operations of dense layers and convolutions."""

    outputs: int
    operations: int


@cache
def count_parameters(settings: Model, shape: Shape, classes: int) -> int:
    """Of the network for images of ``shape`` (channels, height, width); it is built without memory, if that can be.

    Raises ModelError if the architecture refuses its settings or the images.
    """
    network = registry.build_without_memory(settings, shape, classes)
    if network is None:
        with torch.random.fork_rng(devices=[]):
            network = registry.build(settings, shape, classes)
    return sum(each.numel() for each in network.parameters())


@cache
@torch.no_grad()
def measure(settings: Model, shape: Shape, classes: int) -> CostPerImage:
    """What one image takes in the network, which is built and given one: without memory torch would first import its
    compiler for that. torch's generator is left as it was.

    Raises ModelError if the architecture refuses its settings or the images.
    """
    with torch.random.fork_rng(devices=[]):
        network = registry.build(settings, shape, classes).eval()
    channels = len(getattr(network, "pixel_mean", None) or ()) or shape[0]
    outputs = operations = 0

    def count(layer: nn.Module, given: object, result: Tensor) -> None:
        nonlocal outputs, operations
        outputs += result.numel()
        if isinstance(layer, nn.Linear | nn.Conv2d):
            # A multiplication and an addition for each output and each weight that it is the sum over.
            operations += 2 * result.numel() * layer.get_parameter("weight")[0].numel()

    for layer in network.modules():
        if not any(layer.children()):
            layer.register_forward_hook(count)
    network(torch.zeros(1, channels, *shape[1:]))
    return CostPerImage(outputs, operations)


def least_bytes(parameters: int, settings: Train) -> int:
    """Of a training: the weights, their gradients, the optimizer's state, the best ones so far, and their average."""
    return FLOAT * parameters * (3 + STATES[settings.optimizer] + (settings.ema is not None))


def check_size(config: Config, card: DatasetCard, device: torch.device) -> None:
    """Raise ModelError if the model cannot be trained in the memory there is, whatever the batch."""
    parameters = count_parameters(config.model, card.shape, len(card.classes))
    least = least_bytes(parameters, config.train)
    there = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else total_bytes()
    if least > there:
        raise ModelError(
            f"model: {config.model.name} has {parameters:,} parameters here, and training them takes at least "
            f"{least / GIBIBYTE:,.1f} GiB; {_name(device)} has {there / GIBIBYTE:,.1f} GiB; lower "
            f"{_sizes(config.model)}"
        )


def resource_warning(config: Config, card: DatasetCard, device: torch.device) -> str | None:
    """A line on a training that will take long, or may not find the memory for a step; None if neither is likely.

    Raises ModelError as ``check_size`` does.
    """
    check_size(config, card, device)
    model = (config.model, card.shape, len(card.classes))
    parameters, work, said = count_parameters(*model), measure(*model), []
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_bytes()
    # A step keeps the layers' outputs until their gradients are computed.
    part = -(-min(config.train.batch_size, card.sizes["train"]) // config.train.accumulate)
    step = least_bytes(parameters, config.train) + FLOAT * work.outputs * part
    if step > free:
        said.append(
            f"a step may take about {step / GIBIBYTE:,.1f} GiB, and {free / GIBIBYTE:,.1f} GiB is free on "
            f"{_name(device)}; if it does not suffice, lower train.batch_size or "
            f"{_sizes(config.model)}, or raise train.accumulate"
        )
    operations = work.operations * PASSES * card.sizes["train"]
    if operations > QUICK_EPOCH_OPERATIONS and (seconds := operations / _rate(device)) > LONG_EPOCH_SECONDS:
        said.append(f"an epoch takes about {_duration(seconds)} or longer")
    return f"{config.model.name} has {parameters:,} parameters: {'; '.join(said)}" if said else None


def _name(device: torch.device) -> str:
    return "the GPU" if device.type == "cuda" else "this machine"


def _sizes(settings: Model) -> str:
    """The settings that decide how large the model is."""
    taken = registry.architectures()[settings.name].defaults
    return " or ".join(f"model.{key}" for key in SIZES if key in taken)


def _rate(device: torch.device) -> float:
    """Floating-point operations a second of a large product of matrices: a training reaches fewer."""
    side = 1024
    matrix = torch.rand(side, side, generator=torch.Generator().manual_seed(0)).to(device)
    _ = float((matrix @ matrix)[0, 0])
    rounds, began = 5, time.perf_counter()
    for _ in range(rounds):
        product = matrix @ matrix
    _ = float(product[0, 0])
    return rounds * 2 * side**3 / (time.perf_counter() - began)


def _duration(seconds: float) -> str:
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = round(seconds / length)
            return f"{count:,} {unit}" if count == 1 else f"{count:,} {unit}s"
    return f"{seconds:.0f} seconds"
