"""Whether torch.compile works on this machine: it needs a compiler of its own, which not every machine has."""

import torch
from torch import Tensor

from darkroom.errors import ConfigError, first_line


def check_compiler(mode: str, device: torch.device) -> None:
    """Raise ConfigError if nothing can be compiled on ``device``, unless ``train.compile``, the ``mode``, is "none"."""
    if mode == "none":
        return
    import torch._inductor.config as inductor

    try:
        # What was compiled earlier would be found, though nothing new can be compiled.
        with inductor.patch(fx_graph_cache=False):
            torch.compile(_probe, dynamic=False)(torch.zeros(8, device=device))
    except RuntimeError as problem:
        if not is_of_compiler(problem):
            raise
        raise not_compiled(problem, mode) from None


def is_of_compiler(problem: RuntimeError) -> bool:
    """Whether torch.compile could not translate a model, for want of a compiler, say."""
    return type(problem).__module__.startswith(("torch._dynamo", "torch._inductor"))


def not_compiled(problem: RuntimeError, mode: str) -> ConfigError:
    return ConfigError(
        f"train.compile: {mode} does not work here ({first_line(problem)}); set it to none, or install the C++ "
        "compiler, on a GPU Triton, that torch.compile needs"
    )


def _probe(values: Tensor) -> Tensor:
    return values.sin() + 1
