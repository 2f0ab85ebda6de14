"""`darkroom compare --live`: the challenger beside the champion, on pictures that a server was sent."""

import csv
import json
import os
import re
from pathlib import Path

import requests
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from darkroom.config import Config
from darkroom.errors import DataError, ServingError, counted, first_line, quoted
from darkroom.evaluation.live_comparison import LiveComparison, count_outcomes
from darkroom.serving.listening import KEY_VARIABLE
from darkroom.serving.schemas import Shadow
from darkroom.utils.console import messages, output
from darkroom.utils.csv_files import read_csv

SECONDS = 30
COLUMNS = {"digest", "label"}
DIGEST = re.compile(r"[0-9a-f]{32}")


def run(config: Config, url: str, labels: Path | None, *, as_json: bool) -> None:
    """Compare what the models of the server at ``url`` answered, and print the result.

    ``labels`` is a CSV file with the columns digest and label. Raises ServingError if the server does not answer, or
    has no challenger or no `serve.shadow`, and DataError if the labels cannot be read.
    """
    known = read_labels(labels) if labels else {}
    found = fetch(url)
    if found.challenger is None:
        raise ServingError(
            f"{url}: {found.name} has no challenger there but the champion itself; train another model with "
            "`dvc repro`, which registers it"
        )
    answers = [(each.digest, each.champion, each.challenger) for each in found.disagreements]
    labeled, losses, gains = count_outcomes(answers, known)
    comparison = LiveComparison(
        found.champion.version,
        found.challenger.version,
        found.images,
        found.different,
        len(answers),
        labeled,
        losses,
        gains,
        config.gate.alpha,
    )
    if as_json:
        typer.echo(json.dumps(comparison.as_json() | {"server": found.model_dump()}, indent=2))
    else:
        _show(comparison, found)
    if missing := len(answers) - labeled:
        messages.print(
            f"compare: {counted(missing, 'picture')} that they answer differently without a label; --json lists their "
            "digests"
        )


def fetch(url: str) -> Shadow:
    """What the server at ``url`` knows of its challenger. Raises ServingError."""
    if not re.match(r"https?://[^/?#]", url):
        raise ServingError(f"--live {quoted(url)}: expected the address of a server, such as http://127.0.0.1:8000")
    key = os.environ.get(KEY_VARIABLE, "").strip()
    try:
        answer = requests.get(
            f"{url.rstrip('/')}/v1/shadow", headers={"X-API-Key": key} if key else {}, timeout=SECONDS
        )
    except (requests.RequestException, ValueError) as problem:
        why = "no connection" if isinstance(problem, requests.ConnectionError) else first_line(problem)
        raise ServingError(f"{url}: {why}; `darkroom serve` prints the address that it listens on") from None
    if answer.status_code == requests.codes.unauthorized:
        raise ServingError(f"{url}: asks for a key; set {KEY_VARIABLE}")
    try:
        if answer.status_code == requests.codes.not_found and "serve.shadow" in answer.json()["detail"]:
            raise ServingError(f"{url}: {answer.json()['detail']}; set it, to 0.1 for example, and restart the server")
        return Shadow.model_validate(answer.json())
    except (ValueError, KeyError, TypeError):
        raise ServingError(
            f"{url}: HTTP {answer.status_code}, and not the answer of a Darkroom server of this release"
        ) from None


def read_labels(path: Path) -> dict[str, str]:
    """The label for each digest in a CSV file; rows without a label are left out.

    Raises DataError if it cannot be read, a column is missing, a digest is none or has two labels.
    """
    found: dict[str, str] = {}
    try:
        for number, row in enumerate(read_csv(path), start=2):
            if missing := COLUMNS - row.keys():
                raise DataError(f"{path}: has no column {' and '.join(sorted(missing))}; expected digest and label")
            digest, label = (row["digest"] or "").strip().lower(), (row["label"] or "").strip()
            if not DIGEST.fullmatch(digest):
                raise DataError(f"{path}: row {number}: expected 32 hexadecimal digits, got {quoted(digest)}")
            if label and found.setdefault(digest, label) != label:
                raise DataError(
                    f"{path}: row {number}: the image {digest} has two labels, {quoted(found[digest])} and "
                    f"{quoted(label)}; leave one"
                )
    except OSError as problem:
        raise DataError(f"{path}: cannot be read ({(problem.strerror or str(problem)).lower()})") from None
    except (ValueError, csv.Error) as problem:
        raise DataError(f"{path}: no CSV file in UTF-8 ({first_line(problem)})") from None
    return found


def _show(comparison: LiveComparison, found: Shadow) -> None:
    assert found.challenger
    output.print(comparison.headline)
    rows = [
        ("live pictures that both answered", f"{found.images:,}"),
        ("answered differently", f"{found.different:,}"),
        ("failed, dropped", f"{found.failed:,}, {found.dropped:,}"),
        ("kept of these, with a label", f"{comparison.pictures:,}, {comparison.labeled:,}"),
        (f"only version {comparison.a} right", f"{comparison.losses:,}"),
        (f"only version {comparison.b} right", f"{comparison.gains:,}"),
        (
            f"ms of the model, versions {comparison.a} and {comparison.b}",
            f"{found.champion.model_ms:.3f}, {found.challenger.model_ms:.3f}",
        ),
    ]
    if comparison.difference is not None:
        rows.append(("difference in accuracy, estimated", f"{100 * comparison.difference:+.2f} points"))
    if found.champion.set_size is not None and found.challenger.set_size is not None:
        rows.append(("labels in a prediction set", f"{found.champion.set_size:.2f}, {found.challenger.set_size:.2f}"))
    if found.mean_ms is not None:
        rows.append((f"ms of version {comparison.b} with decoding", f"{found.mean_ms:.3f}"))
    table = Table("on live traffic", "", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        table.add_row(*row)
    output.print(table)
    output.print(
        f"A version is called better or worse at a risk of {comparison.alpha:g}, over all looks together, as long as "
        "which pictures have labels does not depend on which version is right."
    )
