"""`darkroom datasets --inspect`: how a folder or an archive would be read, without changing anything."""

import json
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.config import Config, load
from darkroom.data.cache import SPLITS
from darkroom.data.digests import DIGEST_BYTES
from darkroom.datasets import splits
from darkroom.datasets.archives import list_images
from darkroom.datasets.folder import label_by_folders
from darkroom.datasets.inventory import Inventory, in_words
from darkroom.datasets.labels import LabeledImages, label_images
from darkroom.datasets.tables import find_table, store_table
from darkroom.datasets.tree import draw, grow
from darkroom.errors import counted
from darkroom.utils.console import output
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

MAX_CLASSES = 100
MAX_FOLDERS = 20


def run(source: Path) -> None:
    """Print the contents of ``source`` and how it would be read, with the settings for it.

    If there is a project in the working directory, its settings apply.

    Raises DataError for the first error that would stop download or preprocess, after everything else is printed.
    """
    params = Workspace().params
    config = load(params) if params.exists() else Config()
    names, inventory = list_images(source, encoding=config.dataset.encoding)
    _show_files(source, names, inventory)
    _show_classes(source, names, inventory, config)
    _show_settings(source, config)


def _show_files(source: Path, names: list[str], inventory: Inventory) -> None:
    output.print(f"{source}: {counted(inventory.files, 'file')}, {counted(inventory.images, 'image')}")
    for line in draw(grow(names)):
        output.print(f"  {line}")
    output.print(str(inventory))
    folders = list(inventory.folders.items())
    for folder, kinds in folders[:MAX_FOLDERS]:
        output.print(f"  no image in {folder}/ ({in_words(kinds)})")
    if len(folders) > MAX_FOLDERS:
        output.print(f"  nor in {len(folders) - MAX_FOLDERS:,} other folders")


def _label(source: Path, names: list[str], inventory: Inventory, config: Config) -> LabeledImages:
    if config.dataset.name != "folder" or not config.dataset.labels:
        return label_by_folders(names, inventory)
    with scratch_directory() as place:
        store_table(config.dataset.labels, source, place)
        table = find_table(place)
        assert table, "it has just been stored"
        return label_images(table, names)


def _show_classes(source: Path, names: list[str], inventory: Inventory, config: Config) -> None:
    labeled = _label(source, names, inventory, config)
    labels, given, classes = labeled.labels, labeled.splits, labeled.classes
    for line in (*filter(None, [labeled.reading]), *labeled.warnings):
        output.print(line)
    columns = [split for split in ("", *SPLITS) if split in given]
    counts = [np.bincount(labels[given == split], minlength=len(classes)) for split in columns]
    table = Table("class", *(split or "images" for split in columns), box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for label, name in enumerate(classes[:MAX_CLASSES]):
        table.add_row(name, *(f"{count[label]:,}" for count in counts))
    output.print(f"{len(classes):,} classes; images of each, by split as given:")
    output.print(table)
    if len(classes) > MAX_CLASSES:
        output.print(f"… {len(classes) - MAX_CLASSES:,} classes more")
    # Which images come to which split is up to their contents, which are not read here; how many is not.
    unread = np.zeros((len(labels), DIGEST_BYTES), dtype=np.uint8)
    rows = splits.assign_rows(labeled, config.preprocess, unread)
    for line in splits.shortcomings(labels, rows, classes):
        output.print(line)
    about = "" if labeled.groups is None else "about "
    sizes = ", ".join(f"{len(rows[split]):,} {split}" for split in SPLITS)
    cut = [split for split in ("val", "test") if split not in given]
    output.print(f"to be used as: {about}{sizes}" + (f" ({' and '.join(cut)} cut from train)" if cut else ""))


def _show_settings(source: Path, config: Config) -> None:
    output.print("No problems found. To use it, set this in params.yaml and run `dvc repro`:")
    output.print("dataset:")
    output.print("  name: folder")
    output.print(f"  path: {json.dumps(str(source.absolute()), ensure_ascii=False)}")
    if config.dataset.name == "folder" and config.dataset.labels:
        output.print(f"  labels: {json.dumps(config.dataset.labels, ensure_ascii=False)}")
    if config.dataset.encoding:
        output.print(f"  encoding: {config.dataset.encoding}")
    output.print(
        "Images are decoded by the preprocess stage; broken files and mixed gray and color are reported there."
    )
