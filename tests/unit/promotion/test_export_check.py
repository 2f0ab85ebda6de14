"""The gate's rule about a form: the model as ONNX gives every recorded answer, or is refused."""

import sys

import pytest
import torch
from tests.unit.promotion.fakes import answers, evaluated

from darkroom.config.settings import Gate
from darkroom.errors import ModelError
from darkroom.promotion import export_check
from darkroom.promotion.evaluated_model import EvaluatedModel
from darkroom.promotion.gate import evaluate_gate


class Reads(torch.nn.Module):
    """Answers with the first pixel of an image [N, 1, 2, 2]."""

    def forward(self, images):
        return (images[:, 0, 0, :1] == torch.arange(10)).float()


@pytest.fixture
def check(cached, monkeypatch):
    """What the rule says of a model that was recorded to answer rightly where ``right`` says so."""
    cache, fingerprint = cached
    batch = torch.export.Dim("batch")
    example = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    program = torch.export.export(Reads(), (example,), dynamic_shapes=({0: batch},))
    monkeypatch.setattr(EvaluatedModel, "program", lambda self: program)

    def check(right, form="onnx"):
        verdict = evaluate_gate(
            Gate(export=form), evaluated(answers(right), fingerprint=fingerprint), None, bins=10, cache=cache
        )
        return verdict.checks[-1]

    return check


def test_a_model_that_answers_as_onnx_what_was_recorded_passes(check):
    found = check([True] * 100)

    assert (found.rule, found.value, found.passed) == ("export", "0 of 100 answers differ", True)
    assert found.required == "onnx gives every recorded answer"


def test_other_answers_of_the_onnx_file_are_refused(check):
    found = check([True] * 97 + [False] * 3)

    assert (found.value, found.passed) == ("3 of 100 answers differ", False)


def test_a_model_that_cannot_be_written_as_onnx_is_refused_with_the_reason(check, monkeypatch):
    def fails(*_):
        raise ModelError("this model cannot be written as ONNX (no such step)")

    monkeypatch.setattr(export_check, "write_onnx", fails)
    found = check([True] * 100)

    assert (found.value, found.passed) == ("this model cannot be written as ONNX (no such step)", False)


def test_a_package_that_is_missing_is_no_fault_of_the_model(check, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(ModelError, match=r"^the ONNX format needs onnxruntime, which is missing .*\[onnx\]'`$"):
        check([True] * 100)


def test_images_one_by_one_are_the_first_ones_only(cached, monkeypatch):
    cache, fingerprint = cached
    monkeypatch.setattr(export_check, "SINGLE_IMAGES", 10)
    asked = []

    def network(images):
        asked.append(len(images))
        return Reads()(images)

    challenger = evaluated(answers([True] * 100), fingerprint=fingerprint, network=network)
    assert export_check.differing_answers(challenger, "pt2", cache) == 0
    assert asked == [1] * 10 + [7] * 14 + [2] + [64, 36]
