"""`darkroom backbones`: what model.backbone can be set to."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.config.settings import Model
from darkroom.errors import ModelError, counted, quoted
from darkroom.models.backbone import Backbone
from darkroom.models.pretrained import find_backbone
from darkroom.models.timm_backbone import timm_names
from darkroom.models.torchvision_backbone import torchvision_names
from darkroom.training.size import count_parameters
from darkroom.utils.console import output

# timm's models are built to count their parameters, a tenth of a second and more each: of so many at most.
COUNTED = 20
# The classes of ImageNet, for which the counts of parameters are those that are published.
CLASSES = 1000


def run(pattern: str | None) -> None:
    """Print the names that contain ``pattern`` or match it as a glob; without one torchvision's, and how to see timm's.

    Raises ModelError if none matches.
    """
    try:
        of_timm, note = timm_names(pretrained=True), ""
    except ModelError:
        of_timm, note = (), "timm is not installed; `pip install --editable '.[timm]'` adds more than a thousand models"
    if pattern is None:
        found = torchvision_names()
        if of_timm:
            note = f"timm has {len(of_timm):,} more: `darkroom backbones 'timm/convnext*'` lists those that match"
    else:
        found = [name for name in (*torchvision_names(), *of_timm) if _matches(name, pattern)]
        if not found:
            raise ModelError(f"no backbone matches {quoted(pattern)}{'; ' if note else ''}{note}")
    backbones = [find_backbone(name) for name in found]
    is_counted = sum(each.parameters is None for each in backbones) <= COUNTED
    output.print(_table(backbones, is_counted=is_counted))
    if not is_counted:
        output.print(f"{counted(len(found), 'name')}; parameters are counted for {COUNTED} or fewer of timm's")
    if note:
        output.print(note)


def _matches(name: str, pattern: str) -> bool:
    return pattern in name or fnmatchcase(name, pattern)


def _table(backbones: Iterable[Backbone], *, is_counted: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("model.backbone", overflow="fold")  # a name that is cut is none
    table.add_column("parameters, M", justify="right")
    table.add_column("images", justify="right")
    table.add_column("weights")
    for each in backbones:
        parameters = each.parameters or (_count(each) if is_counted else None)
        height, width = each.size
        table.add_row(
            each.name,
            f"{parameters / 1e6:.1f}" if parameters else "",
            f"{width}x{height}",
            "on this machine" if each.cached() else "",
        )
    return table


def _count(backbone: Backbone) -> int | None:
    """Its parameters; None for a model without a layer of classes."""
    try:
        return count_parameters(Model(name="pretrained", backbone=backbone.name), (3, *backbone.size), CLASSES)
    except ModelError:
        return None
