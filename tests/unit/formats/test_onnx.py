"""An ONNX file gives the model's logits, and tells what it is and nothing else."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from torchvision.models.mobilenetv3 import InvertedResidualConfig

from darkroom.errors import ModelError
from darkroom.explanation import explainer
from darkroom.explanation.explainer import Explainer
from darkroom.formats.onnx import check_installed, read_onnx, write_onnx
from darkroom.formats.pt2 import trace
from darkroom.models.registry import architectures

GRAY = (1, 8, 8)
COLOR = (3, 32, 32)
# One of each kind of network, and of gray and colored images.
ARCHITECTURES = [
    pytest.param(({"name": "mlp"}, GRAY), id="mlp"),
    pytest.param(({"name": "simple-cnn", "filters": (4, 8), "hidden": (8,)}, COLOR), id="simple-cnn"),
    pytest.param(({"name": "resnet", "depth": 10, "width": 4}, (1, 12, 12)), id="resnet"),
    pytest.param(({"name": "wide-resnet", "depth": 10, "widen_factor": 1}, COLOR), id="wide-resnet"),
    pytest.param(({"name": "fast-cnn", "filters": (8, 16, 16)}, COLOR), id="fast-cnn"),
    # Its images are 224 pixels wide.
    pytest.param(
        ({"name": "pretrained", "backbone": "mobilenet_v3_small"}, GRAY), id="pretrained gray", marks=pytest.mark.slow
    ),
    pytest.param(({"name": "pretrained", "backbone": "vit_b_16"}, COLOR), id="pretrained vision transformer"),
    # Resized as timm does, which is not how torchvision does.
    pytest.param(({"name": "pretrained", "backbone": "timm/test_efficientnet"}, GRAY), id="pretrained of timm"),
    pytest.param(({"name": "pretrained", "backbone": "timm/test_vit"}, COLOR), id="pretrained transformer of timm"),
]


@pytest.fixture(scope="module")
def small_backbones():
    """torchvision's networks, with fewer and narrower layers than any that it has weights for."""

    def build(name, *, weights, num_classes, image_size=None):
        if name == "vit_b_16":
            return torchvision.models.VisionTransformer(image_size, 32, 1, 2, 16, 32, num_classes=num_classes)
        assert name == "mobilenet_v3_small"
        block = InvertedResidualConfig(16, 5, 32, 24, use_se=True, activation="HS", stride=2, dilation=1, width_mult=1)
        return torchvision.models.MobileNetV3([block], 32, num_classes=num_classes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchvision.models, "get_model", build)
        yield


@pytest.fixture(scope="module", params=ARCHITECTURES)
def in_every_runtime(request, make_classifier, small_backbones, tmp_path_factory):
    """A network of each kind: the shape of its images, the classifier, its exported program and its ONNX file."""
    settings, shape = request.param
    classifier = make_classifier(shape, **settings)
    program = trace(classifier, shape)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    write_onnx(program, {}, path)
    return shape, classifier, program.module(), read_onnx(path)


def test_every_architecture_gives_torchs_logits_in_batches_of_any_size(in_every_runtime, noise):
    shape, classifier, _, model = in_every_runtime
    images = noise(65, shape)

    with torch.no_grad():
        expected = classifier(images)
    assert expected.std() > 1e-3  # else any constant would do
    for size in (1, 7, 64):
        some = slice(2 * size + 1)  # two batches and a smaller one, or all there are
        found = torch.cat([model(batch) for batch in images[some].split(size)])
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected[some], rtol=1e-4, atol=1e-4)


def test_every_architecture_has_heat_maps_in_every_runtime(in_every_runtime, noise, monkeypatch, request):
    monkeypatch.setattr(explainer, "time_limit", lambda shape: 60)  # on a machine that is busy
    monkeypatch.setattr(explainer, "MOST_CELLS", 4)
    shape, *models = in_every_runtime
    # One image and every class: what speaks against a class speaks for another one.
    images, labels = noise(1, shape).numpy().repeat(3, 0), np.arange(3)

    explainers = [Explainer(model, shape) for model in models]
    in_torch, as_program, in_onnx = (each.explain(images, labels) for each in explainers)

    kind = request.node.callspec.id
    is_convolutional = "mlp" not in kind and "transformer" not in kind
    method = "layer-cam" if is_convolutional else "occlusion"
    assert [each.plan.method for each in explainers] == [method, method, "occlusion"]
    np.testing.assert_allclose(as_program, in_torch, atol=1e-3)
    if not is_convolutional:
        np.testing.assert_allclose(in_onnx, in_torch, atol=1e-2)
    for heat in (in_torch, in_onnx):
        assert (heat.shape, heat.dtype, heat.min() >= 0) == ((3, *shape[1:]), np.float32, True)
        assert set(heat.max((1, 2)).tolist()) <= {0, 1}
        assert heat.any()


def test_every_architecture_is_among_them():
    assert {each.values[0][0]["name"] for each in ARCHITECTURES} == architectures().keys()


@pytest.fixture(scope="module")
def written(make_classifier, tmp_path_factory):
    """An ONNX file whose metadata say several kinds of things."""
    about = {"classes": ["é", 'a "b"'], "version": "3", "temperature": 1.5, "shape": [1, 8, 8]}
    path = tmp_path_factory.mktemp("written") / "model.onnx"
    write_onnx(trace(make_classifier(), GRAY), about, path)
    return path, about


def test_it_takes_raw_pixels_and_names_its_batch(written):
    session = onnxruntime.InferenceSession(written[0], providers=["CPUExecutionProvider"])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()

    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["batch", 1, 8, 8])
    assert (logits.name, logits.type, logits.shape) == ("logits", "tensor(float)", ["batch", 3])


def test_its_metadata_are_json(written):
    path, about = written
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    found = session.get_modelmeta().custom_metadata_map
    assert {key: json.loads(value) for key, value in found.items()} == about


def test_it_does_not_tell_whose_directory_the_code_lay_in(written):
    content = written[0].read_bytes()

    assert b".py" not in content
    assert b"darkroom/" not in content


def test_it_is_a_valid_onnx_model(written):
    onnx.checker.check_model(onnx.load(written[0]), full_check=True)


def test_a_file_that_is_none_is_refused_in_one_line(tmp_path, capfd):
    (tmp_path / "model.onnx").write_bytes(b"not a model")

    with pytest.raises(ModelError, match=r"^ONNX Runtime cannot read this model \(.*\)$"):
        read_onnx(tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")


def test_images_of_another_size_are_refused_without_a_word_from_the_library(written, capfd):
    model = read_onnx(written[0])

    with pytest.raises(Exception, match=r"(?s)image.*Expected: 8"):
        model(torch.from_numpy(np.zeros((1, 1, 9, 9), np.uint8)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_told_with_how_to_install_it(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ModelError, match=rf"^the ONNX format needs {package}, .*; run `pip install .*\[onnx\]'`$"):
        check_installed()


def test_a_step_that_onnx_lacks_is_told_in_one_line(make_classifier, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise torch.onnx.errors.OnnxExporterError("No decompositions registered\n\nand so on")

    monkeypatch.setattr(torch.onnx, "export", fails)

    with pytest.raises(ModelError, match=r"^this model cannot be written as ONNX \(No decompositions registered\)$"):
        write_onnx(trace(make_classifier(), GRAY), {}, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
