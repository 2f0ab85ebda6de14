"""Plain files of weights: a state_dict, as torch.save or safetensors writes it, alone or in a checkpoint."""

import warnings
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from darkroom.errors import ModelError

# Where checkpoints keep the state_dict: Lightning and many others, PyTorch's tutorials, torchvision's references.
WRAPPERS = ("state_dict", "model_state_dict", "model")
# A checkpoint within a checkpoint is as deep as they go.
DEPTH = 3
# What is often saved under the name of a file of weights: how it begins, what it is, and what helps.
MISTAKEN = (
    (b"<!doctype", "a web page", "fetch the file that it links to"),
    (b"<html", "a web page", "fetch the file that it links to"),
    (b"version https://git-lfs", "a pointer of Git LFS", "run `git lfs pull` where it came from"),
)
# A counter that older files lack; nothing is computed from it.
COUNTER = "num_batches_tracked"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state_dict in ``path``, on the CPU, read without running any code in it, unwrapped from a checkpoint.

    Raises ModelError.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected weights as torch.save writes a state_dict")
    try:
        with warnings.catch_warnings():
            # torch warns of files of another make than its own before it refuses them.
            warnings.simplefilter("ignore")
            is_torch = path.suffix != ".safetensors"
            found = torch.load(path, map_location="cpu", weights_only=True) if is_torch else load_file(path)
    except Exception as problem:  # there is no saying what damaged bytes make a reader raise
        raise ModelError(f"{path}: {_reason(path, problem)}") from None
    for _ in range(DEPTH):
        if _what_is_not_plain(found) and isinstance(found, dict):
            found = next((found[key] for key in WRAPPERS if isinstance(found.get(key), dict)), found)
    if other := _what_is_not_plain(found):
        raise ModelError(
            f"{path}: expected a state_dict, names and tensors, as torch.save(model.state_dict()) writes, alone or as "
            f"the {', '.join(WRAPPERS[:-1])} or {WRAPPERS[-1]} of a checkpoint; found {other}"
        )
    weights: dict[str, Tensor] = found
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ModelError(f"{path}: {name} holds values that are not finite; did its training diverge?")
    return weights


def _reason(path: Path, problem: Exception) -> str:
    """Why a file could not be read. The rest of torch's message explains how to run the code in the file."""
    with path.open("rb") as opened:
        begins = opened.read(64).lstrip().lower()
    for beginning, what, help_ in MISTAKEN:
        if begins.startswith(beginning):
            return f"{what}, not a file of weights; {help_}"
    if objects := _objects(path):
        shown = ", ".join(objects[:3]) + (", …" if len(objects) > 3 else "")
        return (
            f"holds {shown} beside tensors: reading those could run code; where you trust the file, load it and "
            "torch.save its state_dict alone"
        )
    # An error of another kind tells of the reader, not of the file: "pop from empty list".
    tells = isinstance(problem, OSError | RuntimeError | SafetensorError)
    said = str(problem).partition("\n")[0].partition(". ")[0]
    return "not a file of weights, or damaged" + (f" ({said})" if tells else "")


def _objects(path: Path) -> list[str]:
    """The classes and functions in an archive of torch that are not plain data, found without running any."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # no archive of torch, or a damaged one
        return []


def _what_is_not_plain(found: Any) -> str | None:
    """Why ``found`` is not a mapping of names to tensors; None if it is one."""
    if not isinstance(found, dict):
        return f"a {type(found).__name__}"
    for key, value in found.items():
        if not isinstance(key, str):
            return f"the name {key!r}"
        if not isinstance(value, Tensor):
            return f"{key}, a {type(value).__name__}"
    return None


def named_like(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``found`` under the names of ``wanted``, from which its names may differ by a common prefix.

    Such as DataParallel's ``module.``, torch.compile's ``_orig_mod.`` and Lightning's ``model.``. The shortest change
    that makes the most names agree is used: none, if none helps.
    """
    pairs = sorted(product(_prefixes(found), _prefixes(wanted)), key=lambda pair: len(pair[0]) + len(pair[1]))
    renamed = ({new + key.removeprefix(old): value for key, value in found.items()} for old, new in pairs)
    return max(renamed, key=lambda each: len(each.keys() & wanted.keys()))


def _prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes, up to a dot, that all names have; the first is empty."""
    found = [""]
    # Each name without its own last part, a level at a time.
    for level in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(level)) > 1:
            break
        found.append(f"{found[-1]}{level[0]}.")
    return found


def needed(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], heads: tuple[str, ...]) -> dict[str, Tensor]:
    """The part of ``wanted`` that a file must hold: all but the ``heads``, and no counters that the file lacks."""
    return {
        key: value
        for key, value in wanted.items()
        if not key.startswith(heads) and (key in found or not key.endswith(COUNTER))
    }


def check_fit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], where: Path | str, model: str) -> None:
    """Refuse weights that are not those of ``model``. Raises ModelError, which names the first that differs."""
    for name, value in wanted.items():
        if name not in found:
            raise ModelError(f"{where}: no weights for {name}, which {model} has; were they made by another model?")
        if found[name].shape != value.shape:
            raise ModelError(
                f"{where}: {name} has shape {[*found[name].shape]}, but {model} needs {[*value.shape]}; "
                "give the model the settings that the weights were trained with"
            )
