"""The device of a training, and the precisions that it supports."""

import os
import warnings
from contextlib import AbstractContextManager, nullcontext

import torch

from darkroom.config.settings import Train
from darkroom.data.shares import Share
from darkroom.errors import ConfigError, counted
from darkroom.utils.allocator import keep_freed_memory


def choose_device(name: str) -> torch.device:
    """The device for ``train.device``: for "auto" a CUDA GPU, else Apple's, else the CPU.

    Raises ConfigError if the named one is not there.
    """
    present = [kind for kind, there in _accelerators() if there] + ["cpu"]
    if name == "auto":
        return torch.device(present[0])
    if name not in present:
        raise ConfigError(f"train.device: {name} is not available here; choose from: auto, {', '.join(present)}")
    return torch.device(name)


def _accelerators() -> list[tuple[str, bool]]:
    return [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())]


def cores() -> list[int]:
    """The numbers of the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))  # macOS: they are counted, processes cannot be bound to them


def count_devices(settings: Train, device: torch.device) -> int:
    """How many devices of the kind ``device`` train together: ``train.devices``, for "auto" every GPU.

    Raises ConfigError if this machine has fewer.
    """
    gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    there = len(cores()) if device.type == "cpu" else gpus
    count = gpus if settings.devices == "auto" else int(settings.devices)
    if count > there:
        what = counted(there, "core" if device.type == "cpu" else "GPU")
        raise ConfigError(f"train.devices: {count} are more than this machine has ({what}); set it to {there} or less")
    return count


def check_sharing(settings: Train, count: int) -> None:
    """Raise ConfigError if ``count`` devices cannot train together: a compiled model, or parts of a batch unevenly."""
    if count > 1 and settings.compile != "none":
        raise ConfigError(
            f"train.compile: a compiled model cannot be trained on {count} devices; set it to none, or train.devices "
            "to 1"
        )
    sizes = range(settings.batch_size, settings.batch_size + count * settings.accumulate + 1)
    possible = next(size for size in sizes if Share(0, count, settings.accumulate).divides(size))
    if possible != settings.batch_size:
        parts = f" in {settings.accumulate} parts" if settings.accumulate > 1 else ""
        raise ConfigError(
            f"train.batch_size: {settings.batch_size}{parts} cannot be divided among {count} devices; the next that "
            f"can is {possible}"
        )


def choose_precision(settings: Train, device: torch.device) -> str:
    """``train.precision``; for "auto" the narrowest that the hardware computes in. ``fastest_precision`` measures.

    Raises ConfigError for one that the device does not have.
    """
    if settings.precision == "auto":
        return precisions(device)[-1]
    if settings.precision in ("tf32", "fp16") and device.type != "cuda":
        raise ConfigError(
            f"train.precision: {settings.precision} needs a CUDA GPU, and this trains on {device.type}; "
            "choose auto, bf16 or fp32"
        )
    return settings.precision


def precisions(device: torch.device) -> tuple[str, ...]:
    """The arithmetic that ``device`` has units for, the widest first; what it emulates is several times slower.

    Of CPUs those have bf16 that have AMX or the bf16 instructions of AVX-512. A GPU without bf16 has fp16.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "fp32", "tf32", "bf16"
        return "fp32", "fp16"
    # Older torch cannot tell what the CPU has; fp32 is right on all but the newest.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    computes = any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))
    return ("fp32", "bf16") if device.type == "cpu" and computes else ("fp32",)


def prepare(device: torch.device, *, deterministic: bool) -> None:
    """Set this process to train on ``device``: fast, or with the same bits in every run.

    The CPU gives the same bits at any speed, as long as the number of threads is the same.
    """
    if device.type == "cpu":
        keep_freed_memory()
        return
    # An optimizer that can be captured is used without as well: to warm up, and where nothing can be captured.
    warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")
    if deterministic:
        # cuBLAS asks for it, see https://docs.nvidia.com/cuda/cublas/#results-reproducibility.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # Tries the algorithms for each convolution once and keeps the fastest, which need not be the same each time.
    torch.backends.cudnn.benchmark = not deterministic


def set_tf32(device: torch.device, precision: str) -> None:
    """Let a GPU multiply float32 matrices in TF32, or not: torch's defaults do so in convolutions alone."""
    if device.type != "cuda":
        return
    with warnings.catch_warnings():
        # torch advises settings that its own compiler trips over (pytorch issue 166387).
        warnings.simplefilter("ignore")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context of a forward pass in ``precision``."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
