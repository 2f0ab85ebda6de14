"""timm's models as backbones, named ``timm/`` and timm's name."""

from dataclasses import asdict
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from darkroom.errors import MAX_QUOTED, ModelError, first_line, quoted
from darkroom.models.backbone import Backbone, FileOfUrl

PREFIX = "timm/"
# How timm's files of weights are called at Hugging Face, where its configuration does not say; and how those are that
# it names for their pickles, which are never read.
FILE_NAME = "model.safetensors"
WITHOUT_PICKLE = {"open_clip_pytorch_model.bin": "open_clip_model.safetensors", "pytorch_model.bin": FILE_NAME}
# Those of torch.nn.functional.interpolate that can do without aliasing.
INTERPOLATIONS = ("bilinear", "bicubic")


def timm_names(*, pretrained: bool) -> tuple[str, ...]:
    """timm's names with the prefix: with ``pretrained`` of all weights that it knows, else also of all models.

    Raises ModelError if timm is not installed.
    """
    try:
        import timm  # noqa: F401  whether it is there
    except ImportError as problem:
        raise ModelError(
            f"model.backbone: {PREFIX}… needs timm, which cannot be imported ({first_line(problem)}); "
            "run `pip install --editable '.[timm]'`"
        ) from None
    return _names(pretrained)


@cache
def _names(pretrained: bool) -> tuple[str, ...]:
    import timm

    of_weights = timm.list_models(pretrained=True)
    names = of_weights if pretrained else sorted({*of_weights, *timm.list_models()})
    return tuple(f"{PREFIX}{name}" for name in names)


class TimmBackbone(Backbone):
    """A model by timm's name, such as timm/resnet18 or, with the name of its weights, timm/resnet18.a1_in1k.

    Raises ModelError if there is none, or timm is not installed.
    """

    def __init__(self, name: str) -> None:
        available = timm_names(pretrained=False)
        import timm
        from timm.data.config import resolve_data_config

        if name not in available:
            raise ModelError(f"model.backbone: no model {quoted(name)}; {_hint(name, available)}")
        self.name = name
        self.parameters = None
        self._timm_name = name.removeprefix(PREFIX)
        # A model without weights at timm has no configuration of its own.
        found = timm.models.get_pretrained_cfg(self._timm_name)
        self.config: dict[str, Any] = asdict(found) if found else {}
        expected: dict[str, Any] = resolve_data_config(pretrained_cfg=self.config)
        self.mean, self.std = tuple(expected["mean"]), tuple(expected["std"])
        _channels, height, width = expected["input_size"]
        self.size = (height, width)
        given = expected["interpolation"]
        self.interpolation = given if given in INTERPOLATIONS else "bicubic"

    def build(self, classes: int) -> nn.Module:
        import timm

        model: nn.Module = timm.create_model(self._timm_name, num_classes=classes)
        if not all(_gives(model, head, classes) for head in self.heads(model) or ("",)):
            raise ModelError(
                f"model.backbone: {self.name} has no layer that gives the logits of classes; choose another model"
            )
        return model

    def heads(self, model: nn.Module) -> tuple[str, ...]:
        # A model that has learned from another one has two, and gives their mean.
        found = self.config.get("classifier") or ()
        return (found,) if isinstance(found, str) else tuple(found)

    @property
    def _hosted(self) -> tuple[str, str] | None:
        """The repository and the file of its weights at Hugging Face, if one holds plain tensors."""
        repository, name = self.config.get("hf_hub_id"), self.config.get("hf_hub_filename") or FILE_NAME
        name = WITHOUT_PICKLE.get(name, name)
        return (repository, name) if repository and name.endswith(".safetensors") else None

    @property
    def _url(self) -> FileOfUrl | None:
        """The URL of its weights outside Hugging Face, if torch can read the file."""
        url = self.config.get("url") or ""
        return FileOfUrl(url) if url.endswith((".pth", ".pt")) else None

    def cached(self) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        if self._hosted:
            found = try_to_load_from_cache(*self._hosted)
            return Path(found) if isinstance(found, str) else None
        return self._url.path if self._url and self._url.path.is_file() else None

    def fetch(self) -> Path:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

        if found := self.cached():
            return found
        if self._hosted:
            repository, file = self._hosted
            try:
                # Whether the host answers: a download would wait for it for half a minute, and say so line by line.
                get_hf_file_metadata(hf_hub_url(repository, file))
                return Path(hf_hub_download(repository, file))
            except Exception as problem:  # of the host, of the network and of the disk, under many names
                help_ = f"name {file} of https://huggingface.co/{repository}, once fetched, in model.weights_path"
                raise self.refusal(_root(problem), help_) from None
        if self._url:
            return self._url.fetch(self)
        raise self.refusal(
            "timm has none in a file of tensors alone",
            "name a file with its state_dict in model.weights_path, or choose another",
        )


def _hint(name: str, available: tuple[str, ...]) -> str:
    """The most similar names, compared without the prefix that all have; names of weights only if one was given."""
    of_weights = "." in name
    names = [each.removeprefix(PREFIX) for each in available if of_weights or "." not in each]
    near = get_close_matches(name.removeprefix(PREFIX)[:MAX_QUOTED], names, n=3)
    found = " or ".join(repr(f"{PREFIX}{each}") for each in near)
    return f"did you mean {found}?" if near else "`darkroom backbones PATTERN` lists them"


def _gives(model: nn.Module, layer: str, classes: int) -> bool:
    """Whether ``layer`` is one of ``model`` with an output of each of its weights for each of the classes."""
    try:
        parameters = list(model.get_submodule(layer).parameters())
    except AttributeError:
        return False
    return bool(parameters) and all(len(each) == classes for each in parameters)


def _root(problem: BaseException) -> str:
    """The message of the innermost cause of a problem."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    return first_line(problem)
