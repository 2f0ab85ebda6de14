"""Put a page together: its parts and its data in one HTML file, in which nothing else may run or be loaded."""

import hashlib
import importlib.resources
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from darkroom.utils.files import atomic_file

SHARED = "darkroom.pages"


def write_page(
    path: Path,
    package: str,
    title: str,
    data: Mapping[str, Any],
    *,
    styles: Sequence[str],
    scripts: Sequence[str],
    shared: Sequence[str] = (),
) -> None:
    """Write a page to ``path``, from the files of a ``package``: its body.html, ``styles`` and ``scripts``.

    Of this package it has theme.css, base.css, dom.js, and the styles and scripts that ``shared`` names.

    Everything that comes from the ``data`` is in a block of JSON, which the scripts show as text. They find it as
    ``data``, and run one after another; the page's policy lets no other script run. Raises ValueError for NaN and
    infinities, which JSON does not have.
    """

    def joined(ending: str, own: Sequence[str]) -> str:
        common = [name for name in ("theme.css", "base.css", "dom.js", *shared) if name.endswith(ending)]
        return "\n".join([*(_text(SHARED, name) for name in common), *(_text(package, name) for name in own)])

    style, script = joined(".css", styles), joined(".js", scripts)
    # Of `<` a name could make the end of the block.
    content = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    page = Template(_text(SHARED, "shell.html")).substitute(
        policy=policy, title=title, style=style, body=_text(package, "body.html"), data=content, script=script
    )
    with atomic_file(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _text(package: str, name: str) -> str:
    return importlib.resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """How a policy names a style or a script."""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
