"""`darkroom datasets --inspect`: how a folder or an archive would be read, before anything is done with it."""

import json
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.config import Config
from darkroom.console import output
from darkroom.data import splits
from darkroom.data.archives import list_images
from darkroom.data.cache import SPLITS
from darkroom.data.inventory import Inventory, describe, in_words
from darkroom.data.layout import UNLABELLED, arrange
from darkroom.data.tree import draw, grow

MAX_CLASSES = 100
MAX_FOLDERS = 20


def show(source: Path, config: Config) -> None:
    """Print what lies in ``source`` and how it would be read, with the settings to type.

    Raises DataError for the first thing that download and preprocess would stop at, once the rest is printed.
    """
    names, inventory = list_images(source, encoding=config.dataset.encoding)
    _show_files(source, names, inventory)
    _show_classes(names, inventory, config)
    _show_settings(source, config)


def _show_files(source: Path, names: list[str], inventory: Inventory) -> None:
    output.print(f"{source}: {describe(inventory.files, 'file')}, {describe(inventory.images, 'image')}")
    for line in draw(grow(names)):
        output.print(f"  {line}")
    output.print(str(inventory))
    folders = list(inventory.folders.items())
    for folder, kinds in folders[:MAX_FOLDERS]:
        output.print(f"  no image in {folder}/ ({in_words(kinds)})")
    if len(folders) > MAX_FOLDERS:
        output.print(f"  nor in {len(folders) - MAX_FOLDERS:,} other folders")


def _show_classes(names: list[str], inventory: Inventory, config: Config) -> None:
    labels, given, classes = arrange(names, inventory.folders)
    unlabelled = np.flatnonzero(labels == UNLABELLED)
    if len(unlabelled):
        example = names[unlabelled[0]]
        output.print(f"{describe(len(unlabelled), 'image')} without a class folder left out, such as {example}")
    kept = labels != UNLABELLED
    columns = [split for split in ("", *SPLITS) if split in given[kept]]
    counts = [np.bincount(labels[kept & (given == split)], minlength=len(classes)) for split in columns]
    table = Table("class", *(split or "images" for split in columns), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for label, name in enumerate(classes[:MAX_CLASSES]):
        table.add_row(name, *(f"{count[label]:,}" for count in counts))
    output.print(f"{len(classes):,} classes; images of each, by split as given:")
    output.print(table)
    if len(classes) > MAX_CLASSES:
        output.print(f"… {len(classes) - MAX_CLASSES:,} classes more")
    settings = config.preprocess
    rows = splits.assign(
        labels[kept],
        given[kept],
        classes,
        val_fraction=settings.val_fraction,
        test_fraction=settings.test_fraction,
        seed=settings.seed,
    )
    sizes = ", ".join(f"{len(rows[split]):,} {split}" for split in SPLITS)
    cut = [split for split in ("val", "test") if split not in given[kept]]
    output.print(f"to be used as: {sizes}" + (f" ({' and '.join(cut)} cut from train)" if cut else ""))


def _show_settings(source: Path, config: Config) -> None:
    output.print("Nothing is in the way. To use it, set in params.yaml and run `dvc repro`:")
    output.print(f"dataset:\n  name: folder\n  path: {json.dumps(str(source.absolute()), ensure_ascii=False)}")
    if config.dataset.encoding:
        output.print(f"  encoding: {config.dataset.encoding}")
    output.print("Whether each image can be decoded, and whether grey and colour are mixed, preprocess tells.")
