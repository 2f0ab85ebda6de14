"""A file of weights is read without running what may be in it, and one that does not fit is refused by name."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from darkroom.errors import ModelError
from darkroom.models.weights import check_fit, read_weights


class Intruder:
    """Writes to a file when it is unpickled."""

    def __init__(self, traces: Path) -> None:
        self.traces = traces

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.traces, "been here")


class Foreign:
    """An object of no particular harm."""


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_comes_back_as_it_was_saved(tmp_path: Path, zipped: bool) -> None:
    saved = model().state_dict()
    # Files of before PyTorch 1.6 are no zip archives; many that are still about are such.
    torch.save(saved, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)

    found = read_weights(tmp_path / "weights.pth")

    assert found.keys() == saved.keys()
    assert all(torch.equal(found[key], saved[key]) for key in saved)


@pytest.mark.parametrize("name", ["missing.pth", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r": no such file; expected weights as torch\.save writes a state_dict$"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("protocol", [2, pickle.DEFAULT_PROTOCOL])
@pytest.mark.parametrize("within", [False, True])
def test_code_in_a_file_is_not_run(tmp_path: Path, protocol: int, within: bool) -> None:
    path, traces = tmp_path / "weights.pth", tmp_path / "traces"
    payload: Any = Intruder(traces)
    payload = OrderedDict(weight=payload) if within else payload
    with path.open("wb") as opened:
        pickle.dump(payload, opened, protocol=protocol)
    # It would have run, had anybody unpickled it.
    pickle.loads(path.read_bytes())  # noqa: S301
    traces.unlink()

    with pytest.raises(ModelError, match=r"weights\.pth: not a file of weights, or damaged"):
        read_weights(path)

    assert not traces.exists()


@pytest.mark.parametrize("within", [False, True])
def test_code_in_an_archive_of_torch_is_not_run(tmp_path: Path, within: bool) -> None:
    path, traces = tmp_path / "weights.pth", tmp_path / "traces"
    payload: Any = Intruder(traces)
    torch.save({"weight": payload} if within else payload, path)
    torch.load(path, weights_only=False)
    traces.unlink()

    with pytest.raises(ModelError, match=r"weights\.pth: not a file of weights, or damaged"):
        read_weights(path)

    assert not traces.exists()


@pytest.mark.parametrize("content", [b"", b"not weights\nat all\n", b"PK\x03\x04", bytes(range(256))])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)

    with pytest.raises(ModelError, match=r"weights\.pth: not a file of weights, or damaged \(.+\)$"):
        read_weights(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "weights.pth"
    torch.save(model().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(ModelError, match=r"weights\.pth: not a file of weights, or damaged \(.+\)$"):
        read_weights(path)


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("saved", [model(), Foreign(), {"weight": Foreign()}], ids=["module", "object", "dict"])
def test_a_refusal_is_one_line_and_does_not_advise_to_run_the_code(
    tmp_path: Path, saved: object, pickled: bool
) -> None:
    path = tmp_path / "weights.pth"
    if pickled:
        path.write_bytes(pickle.dumps(saved))
    else:
        torch.save(saved, path)

    with pytest.raises(ModelError) as refusal:
        read_weights(path)

    # torch's own message goes on about weights_only=False, in colours, after warnings of its own.
    assert str(refusal.value) == f"{path}: not a file of weights, or damaged (Weights only load failed)"


@pytest.mark.parametrize(
    "saved",
    [
        [torch.zeros(2)],
        torch.zeros(2),
        {"model": {"weight": torch.zeros(2)}},
        {"weight": torch.zeros(2), "epoch": 3},
        {0: torch.zeros(2)},
        "weights",
    ],
    ids=["list", "tensor", "nested", "with numbers", "without names", "text"],
)
def test_what_is_not_names_and_tensors_is_refused(tmp_path: Path, saved: object) -> None:
    path = tmp_path / "weights.pth"
    torch.save(saved, path)

    with pytest.raises(ModelError, match=r"weights\.pth: expected a state_dict, names and tensors, as torch\.save\(m"):
        read_weights(path)


def test_weights_of_the_same_model_fit_whatever_else_is_there() -> None:
    wanted = model().state_dict()

    check_fit(wanted | {"another": torch.zeros(1)}, wanted, Path("weights.pth"), "small")


def test_the_first_weights_that_are_missing_are_named() -> None:
    wanted = model().state_dict()
    found = {key: value for key, value in wanted.items() if key not in ("1.bias", "2.weight")}

    with pytest.raises(
        ModelError, match=r"^weights\.pth: no weights for 1\.bias, which small has; were they made by another model\?$"
    ):
        check_fit(found, wanted, Path("weights.pth"), "small")


def test_the_first_weights_of_another_shape_are_named() -> None:
    wanted = model().state_dict()
    found = wanted | {"2.weight": torch.zeros(3, 4), "1.weight": torch.zeros(5), "2.bias": torch.zeros(3)}

    with pytest.raises(
        ModelError,
        match=r"^weights\.pth: 1\.weight has shape \[5\], but small needs \[4\]; "
        "give the model the settings that the weights were trained with$",
    ):
        check_fit(found, wanted, Path("weights.pth"), "small")
