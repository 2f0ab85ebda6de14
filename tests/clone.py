"""A copy of the project, in which commands are run as a person types them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Told to every Python process of the run: writes down each host that it looks up or connects to.
RECORD_NETWORK = """
import sys

def record(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect"):
        target = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
        with open({log!r}, "a") as log:
            log.write(f"{{event}} {{target!r}}\\n")

sys.addaudithook(record)
"""


@dataclass(frozen=True)
class Clone:
    """A copy of the project under git, and the way to run commands in it."""

    root: Path
    network_log: Path

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            command, cwd=self.root, env=self.environment(environment), capture_output=True, text=True, timeout=280
        )
        assert not check or ended.returncode == 0, f"{command} failed:\n{ended.stdout}\n{ended.stderr}"
        return ended

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "DARKROOM", "DVC"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        code = f"{self.network_log.parent}{os.pathsep}{self.root / 'src'}"
        return kept | {"PATH": path, "PYTHONPATH": code, **changes}


def copy_project(place: Path) -> Clone:
    root, hooks = place / "darkroom", place / "hooks"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(RECORD_NETWORK.format(log=str(hooks / "network.log")))
    made = Clone(root, hooks / "network.log")
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    made.run("git", "init", "--quiet", "--initial-branch=main")
    made.run("git", "add", "--all")
    made.run("git", *identity, "commit", "--quiet", "--message=start")
    return made
