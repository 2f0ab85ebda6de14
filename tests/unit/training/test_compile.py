"""Compiled models learn what plain ones learn, from the same beginning."""

import contextlib
from functools import partial
from typing import Any

import pytest
import torch
from tests.unit.training.tiny import Scaled, data
from torch import Tensor, nn

from darkroom.config.settings import Augment, Train
from darkroom.data.batches import CPU
from darkroom.errors import ConfigError
from darkroom.training import step as module
from darkroom.training.compiler import check_compiler
from darkroom.training.fit import fit
from darkroom.training.loop import FitResult

compile_model = torch.compile


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        Scaled(), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 3)
    )


def train(**settings: Any) -> tuple[nn.Module, FitResult]:
    model = make_model()
    chosen = Train(**{"epochs": 2, "batch_size": 10, "device": "cpu", "precision": "fp32", **settings})
    return model, fit(model, data(36), data(12), chosen, Augment(), CPU)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """Each compilation's mode and the sizes of the batches it was given. Nothing is translated to machine code."""
    found: list[tuple[str, list[int]]] = []

    def pretend(model: nn.Module, *, mode: str, dynamic: bool) -> Any:
        assert not dynamic
        sizes: list[int] = []
        found.append((mode, sizes))
        forward = compile_model(model, backend="eager")

        def call(images: Tensor) -> Any:
            sizes.append(len(images))
            return forward(images)

        return call

    monkeypatch.setattr(module.torch, "compile", pretend)
    return found


def assert_same(found: nn.Module, expected: nn.Module) -> None:
    for (name, one), other in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_nothing_is_compiled_unless_it_is_asked_for(compiled) -> None:
    result = train()[1]

    assert compiled == []
    assert result.warm_up_seconds == 0


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_the_mode_is_torchs_own(compiled, mode: str) -> None:
    train(compile=mode)

    assert [each for each, _ in compiled] == [mode]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("default", "default"), ("reduce-overhead", "default"), ("max-autotune", "max-autotune-no-cudagraphs")],
)
def test_on_a_gpu_no_part_of_a_step_has_a_graph_of_its_own(compiled, mode: str, expected: str) -> None:
    module._compiled(make_model(), mode, torch.device("cuda"))

    assert [each for each, _ in compiled] == [expected]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_compiled_training_gives_the_same_bits_as_a_plain_one(compiled, accumulate: int) -> None:
    found, result = train(compile="default", accumulate=accumulate)
    expected, _ = train(accumulate=accumulate)

    assert_same(found, expected)
    assert result.warm_up_seconds > 0


def test_the_smaller_last_batch_is_not_compiled_for(compiled) -> None:
    train(compile="default")

    assert set(compiled[0][1]) == {10}


def test_the_tenth_model_of_a_process_is_compiled_as_the_first(compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    for number in range(10):
        model = nn.Sequential(Scaled(), nn.Flatten(), nn.Dropout(number / 20), nn.Linear(36, 3))
        settings = Train(epochs=1, batch_size=12, device="cpu", precision="fp32", compile="default")
        fit(model, data(12), data(12), settings, Augment(), CPU)

    assert len(compiled) == 10


def test_the_warm_up_is_no_part_of_an_epoch(compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = 1000.0
    clock = iter(range(1000))
    behind = [0.0]
    warm_up = module.TrainStep.warm_up

    def late(self: Any, *batch: Tensor) -> None:
        warm_up(self, *batch)
        behind[0] += slow

    monkeypatch.setattr(module.TrainStep, "warm_up", late)
    monkeypatch.setattr("darkroom.training.loop.time.perf_counter", lambda: next(clock) + behind[0])
    result = train(compile="default")[1]

    assert result.warm_up_seconds > slow
    assert all(epoch.seconds < slow for epoch in result.history)


def test_a_captured_graph_learns_the_same_within_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    # The graph is captured and its gradients derived; only the C++ compiler, which not every machine has, is left out.
    monkeypatch.setattr(module.torch, "compile", lambda model, mode, dynamic: compile_aot(model))
    compile_aot = partial(compile_model, backend="aot_eager")
    found, result = train(compile="default")
    expected, plain = train()

    for one, other in zip(result.history, plain.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-5)
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


NO_COMPILER = (
    r"^train\.compile: default does not work here \(InvalidCxxCompiler: No working C\+\+ compiler found .*\); set"
)


def test_where_it_cannot_be_compiled_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "/no/such/compiler"))
    monkeypatch.setattr(torch._inductor.config, "fx_graph_cache", False)
    with pytest.raises(ConfigError, match=NO_COMPILER) as caught:
        train(compile="default")

    assert "\n" not in str(caught.value)


def test_a_missing_compiler_is_found_out_though_earlier_results_are_kept() -> None:
    with contextlib.suppress(ConfigError):  # on a machine without one
        check_compiler("default", CPU)
    torch._dynamo.reset()

    without = torch._inductor.config.patch({"cpp.cxx": (None, "/no/such/compiler")})
    with without, pytest.raises(ConfigError, match=NO_COMPILER) as caught:
        check_compiler("default", CPU)

    assert "\n" not in str(caught.value)


def test_what_is_not_to_be_compiled_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", None)

    check_compiler("none", CPU)
