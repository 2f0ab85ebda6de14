"""Plain files of weights: a state_dict, as torch.save or safetensors writes it."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from darkroom.errors import ModelError


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state_dict in ``path``, on the CPU, read without running any code in it. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected weights as torch.save writes a state_dict")
    try:
        with warnings.catch_warnings():
            # torch warns of files of another make than its own before it refuses them.
            warnings.simplefilter("ignore")
            is_torch = path.suffix != ".safetensors"
            found = torch.load(path, map_location="cpu", weights_only=True) if is_torch else load_file(path)
    except Exception as problem:  # there is no saying what damaged bytes make a reader raise
        # What torch goes on to say is how to run the code in such a file.
        reason = str(problem).partition("\n")[0].partition(". ")[0] or type(problem).__name__
        raise ModelError(f"{path}: not a file of weights, or damaged ({reason})") from None
    if not isinstance(found, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found.items()):
        raise ModelError(f"{path}: expected a state_dict, names and tensors, as torch.save(model.state_dict()) writes")
    return found


def check_fit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path, model: str) -> None:
    """Refuse weights that are not those of ``model``. Raises ModelError, which names the first that differs."""
    for name, value in wanted.items():
        if name not in found:
            raise ModelError(f"{path}: no weights for {name}, which {model} has; were they made by another model?")
        if found[name].shape != value.shape:
            raise ModelError(
                f"{path}: {name} has shape {[*found[name].shape]}, but {model} needs {[*value.shape]}; "
                "give the model the settings that the weights were trained with"
            )
