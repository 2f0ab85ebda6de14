"""Answers come from ONNX Runtime or from torch, whichever is faster, and only if both say the same."""

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.errors import ModelError
from darkroom.serving import runtime as runtime_module
from darkroom.serving.runtime import choose_runtime

SHAPE = (1, 6, 6)


class Net(nn.Module):
    """A classifier of raw pixels, as small as can be."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))

    def forward(self, images):
        return self.layers(images.float() / 255)


@pytest.fixture(scope="module")
def program():
    torch.manual_seed(0)
    example = torch.zeros(4, *SHAPE, dtype=torch.uint8)
    return torch.export.export(Net().eval(), (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))


@pytest.fixture
def probe():
    return np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_each_gives_the_models_logits_for_any_number_of_images(program, probe, tmp_path, kind):
    runtime = choose_runtime(program, kind, probe, {}, tmp_path, 2)

    assert runtime.kind == kind
    assert runtime.seconds > 0
    for count in (1, 5, 33):
        images = np.resize(probe, (count, *SHAPE))
        expected = program.module()(torch.from_numpy(images)).detach().numpy()
        np.testing.assert_allclose(runtime.infer(images), expected, atol=1e-5)


@pytest.mark.parametrize("fast", ["onnx", "torch"])
def test_the_faster_one_is_taken(program, probe, tmp_path, monkeypatch, fast):
    infer = runtime_module._torch_infer(program.module())
    in_torch, in_onnx = (lambda images: infer(images)), (lambda images: infer(images))
    monkeypatch.setattr(runtime_module, "_torch_infer", lambda *given: in_torch)
    monkeypatch.setattr(runtime_module, "_onnx_infer", lambda *given: in_onnx)
    slow = in_onnx if fast == "torch" else in_torch
    monkeypatch.setattr(runtime_module, "_seconds", lambda asked, images: 2.0 if asked is slow else 1.0)

    assert choose_runtime(program, "auto", probe, {}, tmp_path, 2).kind == fast


def test_an_onnx_model_that_says_something_else_is_not_taken(program, probe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        runtime_module, "_onnx_infer", lambda *given: lambda images: np.zeros((len(images), 3), np.float32)
    )
    assert choose_runtime(program, "auto", probe, {}, tmp_path, 2).kind == "torch"
    assert "warning: ONNX Runtime cannot be used (its logits differ by " in capsys.readouterr().err
    with pytest.raises(ModelError, match=r"its logits differ by .*set serve.runtime to torch"):
        choose_runtime(program, "onnx", probe, {}, tmp_path, 2)


def test_without_onnx_runtime_torch_answers(program, probe, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert choose_runtime(program, "auto", probe, {}, tmp_path, 2).kind == "torch"
    assert "onnxruntime" in capsys.readouterr().err
    with pytest.raises(ModelError, match=r"set serve\.runtime to torch"):
        choose_runtime(program, "onnx", probe, {}, tmp_path, 2)
