"""The device is one that is there, the precision one that the hardware computes in."""

import os
from types import SimpleNamespace

import pytest
import torch

from darkroom.config.settings import Train
from darkroom.errors import ConfigError
from darkroom.training import device as module
from darkroom.training.device import autocast, choose_device, choose_precision, prepare, set_tf32

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
MPS = torch.device("mps")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    def pretend(*, cuda: bool = False, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(False, False, "cpu"), (True, False, "cuda"), (False, True, "mps"), (True, True, "cuda")],
)
def test_auto_takes_the_fastest_device_that_is_there(machine, cuda: bool, mps: bool, chosen: str) -> None:
    machine(cuda=cuda, mps=mps)

    assert choose_device("auto").type == chosen


def test_the_cpu_can_be_chosen_beside_a_gpu(machine) -> None:
    machine(cuda=True)

    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("name", "mps", "choices"),
    [("cuda", False, "auto, cpu"), ("mps", False, "auto, cpu"), ("cuda", True, "auto, mps, cpu")],
)
def test_a_device_that_is_not_there_is_refused(machine, name: str, mps: bool, choices: str) -> None:
    machine(mps=mps)

    with pytest.raises(ConfigError, match=rf"^train\.device: {name} is not available here; choose from: {choices}$"):
        choose_device(name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("device", [CPU, CUDA, MPS])
def test_a_named_precision_is_taken_everywhere(precision: str, device: torch.device) -> None:
    assert choose_precision(Train(precision=precision), device) == precision


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp16")])
def test_gpus_that_would_emulate_bf16_take_fp16(monkeypatch: pytest.MonkeyPatch, native: bool, precision: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)

    assert choose_precision(Train(), CUDA) == precision


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"amx_bf16": True, "avx512_bf16": False}, "bf16"),
        ({"amx_bf16": False, "avx512_bf16": True}, "bf16"),
        ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_auto_takes_bf16_on_cpus_that_compute_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    assert choose_precision(Train(), CPU) == precision


def test_auto_takes_fp32_where_torch_cannot_tell_what_the_cpu_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)

    assert choose_precision(Train(), CPU) == "fp32"


def test_auto_takes_fp32_on_apples_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)

    assert choose_precision(Train(), MPS) == "fp32"


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_the_forward_pass_computes_in_the_chosen_precision(precision: str, dtype: torch.dtype) -> None:
    with autocast(CPU, precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)

    assert product.dtype == dtype


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
@pytest.mark.parametrize("device", [CPU, MPS])
def test_a_precision_of_nvidias_gpus_is_refused_elsewhere(precision: str, device: torch.device) -> None:
    message = rf"^train\.precision: {precision} needs a CUDA GPU, and this trains on {device.type}; choose auto, "
    with pytest.raises(ConfigError, match=message):
        choose_precision(Train(precision=precision), device)


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_a_gpu_takes_it(precision: str) -> None:
    assert choose_precision(Train(precision=precision), CUDA) == precision


@pytest.mark.parametrize(("precision", "expected"), [("fp32", False), ("tf32", True), ("bf16", True)])
def test_fp32_is_exact_and_tf32_is_set_on_purpose(
    monkeypatch: pytest.MonkeyPatch, precision: str, expected: bool
) -> None:
    matmul, cudnn = SimpleNamespace(), SimpleNamespace()
    monkeypatch.setattr(torch.backends.cuda, "matmul", matmul)
    monkeypatch.setattr(torch.backends, "cudnn", cudnn)

    set_tf32(CPU, precision)
    assert vars(matmul) == {}
    set_tf32(CUDA, precision)
    assert matmul.allow_tf32 is cudnn.allow_tf32 is expected


@pytest.fixture
def switches(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the process is set to."""
    found: dict[str, object] = {}
    monkeypatch.setattr(module, "keep_freed_memory", lambda: found.update(memory="kept"))
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on: found.update(deterministic=on))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    return found


@pytest.mark.parametrize("deterministic", [True, False])
def test_on_the_cpu_freed_memory_is_kept_and_nothing_else_is_changed(switches, deterministic: bool) -> None:
    before = torch.backends.cudnn.benchmark

    prepare(CPU, deterministic=deterministic)

    assert switches == {"memory": "kept"}
    assert torch.backends.cudnn.benchmark == before


def test_a_gpu_takes_the_fastest_algorithms(switches) -> None:
    prepare(CUDA, deterministic=False)

    assert switches == {"deterministic": False}
    assert torch.backends.cudnn.benchmark
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_a_gpu_can_be_told_to_repeat_itself(switches) -> None:
    prepare(CUDA, deterministic=True)

    assert switches == {"deterministic": True}
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
