"""Folders of images, read as the stages read them."""

import io
import tarfile
import zipfile

from darkroom.config.settings import Dataset, Preprocess
from darkroom.datasets.catalog import CATALOG

FOLDER = CATALOG["folder"]


def quiet(what, done, total):
    pass


def decoded(tmp_path, files, *, report=quiet, **preprocess):
    """What ``Folder.decode`` makes of ``files``, {name: content}, packed from a zip; settings by their names."""
    source, raw, scratch = tmp_path / "source.zip", tmp_path / "raw", tmp_path / "scratch"
    with zipfile.ZipFile(source, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    scratch.mkdir(exist_ok=True)
    FOLDER.download(Dataset(name="folder", path=str(source)), raw, quiet)
    return FOLDER.decode(raw, Preprocess(**preprocess), scratch, report)


def as_directory(path, files):
    """Write ``files``, {name: content}, below ``path``; a name without content is an empty folder."""
    for name, content in files.items():
        if content is None:
            (path / name).mkdir(parents=True)
        else:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path


def as_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content or b"")
    return path


def as_tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.size, info.type = len(content or b""), tarfile.REGTYPE if content is not None else tarfile.DIRTYPE
            archive.addfile(info, io.BytesIO(content or b""))
    return path
