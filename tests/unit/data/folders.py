"""Folders of images, read as the stages read them."""

import zipfile

from darkroom.data.catalog import CATALOG
from darkroom.settings import Dataset, Preprocess

FOLDER = CATALOG["folder"]


def quiet(what, done, total):
    pass


def decoded(tmp_path, files, *, report=quiet, dataset=None, **preprocess):
    """What ``Folder.decode`` makes of ``files``, {name: content}, packed from a zip; settings by their names."""
    source, raw, scratch = tmp_path / "source.zip", tmp_path / "raw", tmp_path / "scratch"
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    scratch.mkdir(exist_ok=True)
    FOLDER.download(Dataset(name="folder", path=str(source), **(dataset or {})), raw, quiet)
    return FOLDER.decode(raw, Preprocess(**preprocess), scratch, report)
