"""`darkroom datasets --inspect`: how a folder or an archive would be read, without changing anything."""

import json
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.config import Config, load, parse
from darkroom.config.addresses import is_address
from darkroom.config.settings import Dataset
from darkroom.data.cache import SPLITS
from darkroom.data.digests import DIGEST_BYTES
from darkroom.datasets import splits
from darkroom.datasets.archives import list_images
from darkroom.datasets.folder import label_source
from darkroom.datasets.inventory import Inventory, in_words
from darkroom.datasets.labels import LabeledImages
from darkroom.datasets.remote.bring import bring
from darkroom.datasets.tree import draw, grow
from darkroom.errors import counted
from darkroom.utils.console import output, reporter
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace

MAX_CLASSES = 100
MAX_FOLDERS = 20


def run(source: str) -> None:
    """Print the contents of ``source``, a path or an address, and how it would be read, with the settings for it.

    If there is a project in the working directory, its settings apply, and it keeps what is downloaded.

    Raises DataError for the first error that would stop download or preprocess, after everything else is printed.
    """
    workspace = Workspace()
    is_project = workspace.params.exists()
    config = load(workspace.params) if is_project else Config()
    given = config.dataset if config.dataset.name == "folder" else Dataset(encoding=config.dataset.encoding)
    wanted = {"name": "folder", "path": source, "labels": given.labels, "encoding": given.encoding}
    dataset = parse({"dataset": wanted}, where="").dataset
    with scratch_directory() as scratch:
        with reporter() as report:
            local, _ = bring(dataset, workspace.remote if is_project else scratch, report)
        place = Path(local.path).expanduser()
        names, inventory = list_images(place, encoding=local.encoding)
        _show_files(source, names, inventory)
        _show_classes(label_source(place, local.labels, names, inventory), config)
    _show_settings(dataset)


def _show_files(source: str, names: list[str], inventory: Inventory) -> None:
    output.print(f"{source}: {counted(inventory.files, 'file')}, {counted(inventory.images, 'image')}")
    for line in draw(grow(names)):
        output.print(f"  {line}")
    output.print(str(inventory))
    folders = list(inventory.folders.items())
    for folder, kinds in folders[:MAX_FOLDERS]:
        output.print(f"  no image in {folder}/ ({in_words(kinds)})")
    if len(folders) > MAX_FOLDERS:
        output.print(f"  nor in {len(folders) - MAX_FOLDERS:,} other folders")


def _show_classes(labeled: LabeledImages, config: Config) -> None:
    labels, given, classes = labeled.labels, labeled.splits, labeled.classes
    for line in (*filter(None, [labeled.reading]), *labeled.warnings):
        output.print(line)
    columns = [split for split in ("", *SPLITS, splits.INBOX) if split in given]
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


def _show_settings(dataset: Dataset) -> None:
    output.print("No problems found. To use it, set this in params.yaml and run `dvc repro`:")
    output.print("dataset:")
    output.print("  name: folder")
    path = dataset.path if is_address(dataset.path) else str(Path(dataset.path).expanduser().absolute())
    output.print(f"  path: {json.dumps(path, ensure_ascii=False)}")
    if dataset.labels:
        output.print(f"  labels: {json.dumps(dataset.labels, ensure_ascii=False)}")
    if dataset.encoding:
        output.print(f"  encoding: {dataset.encoding}")
    output.print(
        "Images are decoded by the preprocess stage; broken files and mixed gray and color are reported there."
    )
