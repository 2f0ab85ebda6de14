"""An ONNX file that computes in 8 bits: smaller, with nearly the same logits, and the pixels as they are."""

import json
import logging

import onnx
import pytest
import torch

from darkroom.data.batches import Split
from darkroom.formats.onnx import read_onnx, write_onnx
from darkroom.formats.pt2 import trace
from darkroom.formats.quantization import quantize_int8

SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def both(make_classifier, noise, tmp_path_factory):
    """A network with a convolution, pooling and dense layers, in fp32 and in 8 bits."""
    classifier = make_classifier(SHAPE, name="simple-cnn", filters=(8, 16), hidden=(256,))
    place = tmp_path_factory.mktemp("both")
    full, small = place / "full.onnx", place / "small.onnx"
    write_onnx(trace(classifier, SHAPE), {"version": "1"}, full)
    images, told = noise(100, SHAPE), []
    quantize_int8(full, Split(images, torch.zeros(100, dtype=torch.int64)), {"version": "2"}, small, told.append)
    assert sum(told) == 100
    return full, small


def test_the_logits_are_nearly_the_same_in_batches_of_any_size(both, noise):
    full, small = map(read_onnx, both)
    images = noise(65, SHAPE)

    expected = full(images)
    for size in (1, 7, 64):
        found = torch.cat([small(batch) for batch in images.split(size)])
        # 8 bits tell 256 values apart: an error of some of them is far from one of the range.
        assert 0 < (found - expected).abs().max() < 0.1 * (expected.max() - expected.min())


def test_it_is_less_than_a_third_as_large(both):
    full, small = both

    assert small.stat().st_size < full.stat().st_size / 3


def test_the_layers_with_weights_are_quantized_and_the_pixels_are_not(both):
    graph = onnx.load(both[1]).graph
    makers = {output: node for node in graph.node for output in node.output}
    weighted = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]

    assert len(weighted) == 4
    assert all(makers[name].op_type == "DequantizeLinear" for node in weighted for name in node.input[:2])
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    (cast,) = [node for node in graph.node if "image" in node.input]
    assert cast.op_type == "Cast"


def test_weights_have_a_scale_for_each_channel_and_seven_bits(both):
    graph = onnx.load(both[1]).graph
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [value for name, value in held.items() if value.dtype == "int8" and value.ndim > 1]
    scales = [value for name, value in held.items() if name.endswith("weight_scale")]

    assert len(weights) == len(scales) == 4
    assert {value.shape for value in scales} == {(8,), (16,), (256,), (3,)}
    assert all(abs(value).max() <= 64 for value in weights)


def test_it_carries_metadata_of_its_own(both):
    assert {each.key: json.loads(each.value) for each in onnx.load(both[1]).metadata_props} == {"version": "2"}


def test_nothing_is_said_while_it_is_made(both, noise, tmp_path, capfd, caplog):
    images = Split(noise(10, SHAPE), torch.zeros(10, dtype=torch.int64))
    quantize_int8(both[0], images, {}, tmp_path / "small.onnx", lambda images: None)

    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
