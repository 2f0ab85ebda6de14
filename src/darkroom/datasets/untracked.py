"""Link images that git does not track into the copy of the project that DVC makes for an experiment."""

import os
import subprocess
from pathlib import Path

from darkroom.datasets.signatures import has_image_suffix
from darkroom.workspace import project_root


def link_untracked(path: Path) -> None:
    """If this process runs in such a copy, link the untracked files of the checkout into its directory ``path``.

    Each file becomes a link, which DVC hashes like the file. If git or DVC has put images into the copy, nothing is
    linked.
    """
    here, checkout = Path.cwd().resolve(), project_root()
    copy, theirs = here / path, (checkout / path).resolve()
    if here == checkout or not copy.resolve().is_relative_to(here) or not theirs.is_dir():
        return
    if here.is_relative_to(theirs) or _holds_images(copy):
        return
    tracked = _tracked(theirs)
    for directory, folders, files in os.walk(theirs):
        place = copy / Path(directory).relative_to(theirs)
        place.mkdir(parents=True, exist_ok=True)
        linked = [name for name in folders if Path(directory, name).is_symlink()]
        for name in (*files, *linked):
            target = Path(directory, name)
            if str(target) not in tracked and not os.path.lexists(place / name):
                (place / name).symlink_to(target)


def _holds_images(directory: Path) -> bool:
    return any(has_image_suffix(name) for _, _, files in os.walk(directory) for name in files)


def _tracked(directory: Path) -> set[str]:
    """The files below ``directory`` that git tracks; none outside of a repository."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=directory, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return set()
    return {str(directory / os.fsdecode(name)) for name in listed.split(b"\0") if name}
