"""Whether DVC's lock file and cache agree with the working tree."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from darkroom.commands.doctor.finding import Finding, wrong
from darkroom.workspace import Workspace

AREA = "DVC"
# What `dvc status` calls an output that differs from dvc.lock.
CHANGED = ("modified", "not in cache")


def start(workspace: Workspace) -> "subprocess.Popen[str]":
    """Start `dvc status`, which takes seconds: other checks can run in the meantime."""
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=workspace.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(asked: "subprocess.Popen[str]", wrong_files: Sequence[str]) -> Iterator[Finding]:
    """The state of the stages and their outputs according to the DVC process of ``start``.

    ``wrong_files`` are lines about files that must not be committed.
    """
    answer, complaint = asked.communicate()
    if asked.returncode:
        said = complaint.strip().removeprefix("ERROR: ").partition("\n")[0]
        yield wrong(AREA, f"`dvc status` failed: {said or 'exit code ' + str(asked.returncode)}")
        return
    stages: dict[str, list[Any]] = json.loads(answer)
    changed = {
        path: state
        for changes in stages.values()
        for each in changes
        if isinstance(each, dict)
        for path, state in each.get("changed outs", {}).items()
        if state in CHANGED
    }
    for path, state in changed.items():
        found = "is not in DVC's cache" if state == "not in cache" else "differs from dvc.lock"
        or_keep = "" if any(path in line for line in wrong_files) else ", `dvc commit` keeps it as it is"
        yield wrong(AREA, f"{path}: {found}; `dvc repro` recreates it{or_keep}")
    if stages and not changed:
        yield Finding(AREA, f"dvc.yaml: out of date: {', '.join(stages)}; `dvc repro` runs them")
    elif not stages:
        yield Finding(AREA, "dvc.lock: every stage is up to date")
