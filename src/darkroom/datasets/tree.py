"""The folders that contain images, as a tree: a layout is read from it, and error messages show it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from darkroom.errors import counted

MAX_SHOWN = 8
SHOWN_DEPTH = 2


@dataclass
class Node:
    """A folder with images in it or below: ``images`` of its own, ``total`` with all below.

    ``path`` is relative to the source, "" for the source itself.
    """

    path: str
    images: int = 0
    total: int = 0
    folders: "dict[str, Node]" = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def only_folder(self) -> "Node | None":
        """The folder that everything here lies in, if there is one."""
        return next(iter(self.folders.values())) if len(self.folders) == 1 and not self.images else None


def grow(names: Iterable[str]) -> Node:
    """The tree of the images' names. It has a node for each folder, not for each image."""
    root = Node("")
    for folder, count in sorted(Counter(name.rpartition("/")[0] for name in names).items()):
        node = root
        node.total += count
        for part in folder.split("/") if folder else ():
            if part not in node.folders:
                node.folders[part] = Node(f"{node.path}/{part}".removeprefix("/"))
            node = node.folders[part]
            node.total += count
        node.images += count
    return root


def draw(root: Node) -> Iterator[str]:
    """A line for each folder, indented: two levels, and the first folders of each."""
    yield f"{root.path or '.'}/: {counted(root.total, 'image')}"
    yield from _draw(root, 1)


def _draw(node: Node, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for folder in list(node.folders.values())[:MAX_SHOWN]:
        inside = f", in {counted(len(folder.folders), 'folder')}" if folder.folders and depth == SHOWN_DEPTH else ""
        yield f"{indent}{folder.name}/: {counted(folder.total, 'image')}{inside}"
        if depth < SHOWN_DEPTH:
            yield from _draw(folder, depth + 1)
    hidden = len(node.folders) - MAX_SHOWN
    if hidden > 0:
        yield f"{indent}… {hidden:,} folders more"
    if node.images and node.folders:
        yield f"{indent}({counted(node.images, 'image')} beside these folders)"
