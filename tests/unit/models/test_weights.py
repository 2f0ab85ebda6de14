"""A file of weights is read without running what may be in it, and one that does not fit is refused by name."""

import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from darkroom.errors import ModelError
from darkroom.models.weights import check_fit, named_like, read_weights


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

    with pytest.raises(
        ModelError, match=r"weights\.pth: holds .*pathlib\.\w*Path.* beside tensors: reading those could"
    ):
        read_weights(path)

    assert not traces.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80", b"not weights\nat all\n", bytes(range(256))])
def test_a_file_of_something_else_is_refused_without_what_the_reader_stumbled_over(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)

    with pytest.raises(ModelError) as refusal:
        read_weights(path)

    assert str(refusal.value) == f"{path}: not a file of weights, or damaged"


def test_a_file_that_ends_after_its_first_bytes_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"PK\x03\x04")

    with pytest.raises(ModelError, match=r"or damaged \(PytorchStreamReader failed reading zip archive: .+\)$"):
        read_weights(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "weights.pth"
    torch.save(model().state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(ModelError, match=r"weights\.pth: not a file of weights, or damaged \(.+\)$"):
        read_weights(path)


@pytest.mark.parametrize("saved", [model(), Foreign(), {"weight": Foreign()}], ids=["module", "object", "dict"])
def test_a_refusal_is_one_line_and_does_not_advise_to_run_the_code(tmp_path: Path, saved: object) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(saved))

    with pytest.raises(ModelError) as refusal:
        read_weights(path)

    # torch's own message goes on about weights_only=False, in colors, after warnings of its own.
    assert str(refusal.value) == f"{path}: not a file of weights, or damaged"


@pytest.mark.parametrize(
    ("saved", "named"),
    [
        (model(), r"torch\.nn\.modules\.\S+, torch\.nn\.modules\.\S+, torch\.nn\.modules\.\S+(, …)?"),
        (Foreign(), r"\S+\.Foreign"),
        ({"state_dict": model().state_dict(), "hyper_parameters": Foreign()}, r"\S+\.Foreign"),
    ],
    ids=["module", "object", "checkpoint"],
)
def test_what_is_not_plain_in_a_file_of_torch_is_named(tmp_path: Path, saved: object, named: str) -> None:
    path = tmp_path / "weights.pth"
    torch.save(saved, path)

    with pytest.raises(ModelError) as refusal:
        read_weights(path)

    assert re.fullmatch(
        rf"{re.escape(str(path))}: holds {named} beside tensors: reading those could run code; "
        "where you trust the file, load it and torch.save its state_dict alone",
        str(refusal.value),
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (
            b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
            "a web page, not a file of weights; fetch the file that",
        ),
        (b"<html>", "a web page, not a file of weights; fetch the file that it links to"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "a pointer of Git LFS, not a file of weights; run",
        ),
    ],
)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_what_is_often_saved_instead_is_named(tmp_path: Path, content: bytes, what: str, ending: str) -> None:
    path = tmp_path / f"weights.{ending}"
    path.write_bytes(content)

    with pytest.raises(ModelError, match=rf"weights\.{ending}: {what}"):
        read_weights(path)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda states: {"state_dict": states, "epoch": 3, "optimizer": {"state": {}, "lr": 0.1}},
        lambda states: {"model": states, "model_ema": states, "args": ["--lr", "0.1"]},
        lambda states: {"epoch": 3, "model_state_dict": states, "loss": 0.5},
        lambda states: {"model": {"state_dict": states}},
        # As Lightning writes it.
        lambda states: {
            "epoch": 1, "global_step": 9, "pytorch-lightning_version": "2.5.0", "state_dict": states, "loops": {},
            "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": "", "kth_best_model_path": {}}},
            "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}}], "lr_schedulers": [],
            "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.001, "hidden": [64, 10]},
        },
    ],
    ids=["state_dict", "model", "model_state_dict", "twice", "Lightning"],
)  # fmt: skip
def test_a_state_dict_is_taken_out_of_a_checkpoint(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    saved = model().state_dict()
    torch.save(wrap(saved), tmp_path / "weights.ckpt")

    found = read_weights(tmp_path / "weights.ckpt")

    assert found.keys() == saved.keys()
    assert all(torch.equal(found[key], saved[key]) for key in saved)


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2), "b": torch.tensor([1.0, float("nan")])}, tmp_path / "weights.pth")

    with pytest.raises(ModelError, match=r"weights\.pth: b holds values that are not finite"):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "saved",
    [
        [torch.zeros(2)],
        torch.zeros(2),
        {"net": {"weight": torch.zeros(2)}},
        {"model": {"weight": 1.0}},
        {"weight": torch.zeros(2), "epoch": 3},
        {0: torch.zeros(2)},
        "weights",
    ],
    ids=["list", "tensor", "another name", "no tensors", "with numbers", "without names", "text"],
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


# --- names ----------------------------------------------------------------------------------------------

PARTS = st.lists(st.sampled_from(["module", "_orig_mod", "model", "net", "0"]), max_size=3)


@given(lost=PARTS, gained=PARTS)
def test_a_prefix_that_all_names_have_is_no_difference(lost: list[str], gained: list[str]) -> None:
    states = model().state_dict()
    wanted = {".".join([*lost, key]): value for key, value in states.items()}
    found = {".".join([*gained, key]): value for key, value in states.items()}

    named = named_like(found, wanted)

    assert named.keys() == wanted.keys()
    assert all(torch.equal(named[key], wanted[key]) for key in wanted)


def test_names_that_agree_keep_their_prefix() -> None:
    states = {"model.0.weight": torch.zeros(1), "model.0.bias": torch.zeros(1)}

    assert named_like(states, states).keys() == states.keys()


def test_a_prefix_that_only_some_names_have_stays() -> None:
    found = {"model.weight": torch.zeros(1), "loss.weight": torch.zeros(1)}

    assert named_like(found, {"weight": torch.zeros(1)}).keys() == found.keys()


def test_of_no_weights_nothing_is_renamed() -> None:
    assert named_like({}, model().state_dict()) == {}
