"""A copy of the project, in which commands are run as a person types them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.defaults import ROOT, copy_recipes, write_params

from darkroom.datasets.fixes import write_fixes

IDENTITY = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
SECONDS = 800  # for a command that hangs; nothing is measured
# Told to every Python process of the run: writes down each host that it looks up or connects to. To search what is
# imported for garbage would take a sixth of the time that importing takes.
EVERY_PROCESS = """
import gc
import sys

gc.set_threshold(10_000, 10, 100)

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
            command, cwd=self.root, env=self.environment(environment), capture_output=True, text=True, timeout=SECONDS
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

    def commit(self, message: str) -> None:
        self.run("git", *IDENTITY, "commit", "--quiet", "--all", f"--message={message}")

    def configure(self, **changes: object) -> None:
        """Write its settings anew, with changes given as section__key=value."""
        write_params(self.root, **changes)

    def environment(self, changes: Mapping[str, str]) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "DARKROOM", "DVC"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        code = f"{self.network_log.parent}{os.pathsep}{self.root / 'src'}"
        # Its own place for DVC's settings and locks, whatever the user has configured.
        places = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
        own = dict.fromkeys(places, str(self.network_log.parent / "dvc"))
        own["DARKROOM_CACHE"] = os.environ["DARKROOM_CACHE"]
        return kept | {"PATH": path, "PYTHONPATH": code} | own | changes


def copy_project(place: Path, **changes: object) -> Clone:
    """A fresh clone in ``place`` with the code of this working tree, and with settings given as section__key=value.

    What a user adds to a working tree stays behind: edited settings, DVC's lock file and local configuration, images,
    decisions about them.
    """
    root, hooks = place / "darkroom", place / "hooks"
    for name in (*_listed("--cached"), *_listed("--others", "--exclude-standard", "src")):
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith("recipes/"):
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    copy_recipes(root)
    write_params(root, **changes)
    write_fixes(root / "data" / "fixes.csv", [])
    (root / ".dvc" / "config.local").write_text("[cache]\n    dir = cache\n")
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(EVERY_PROCESS.format(log=str(hooks / "network.log")))
    made = Clone(root, hooks / "network.log")
    made.run("git", "init", "--quiet", "--initial-branch=main")
    made.run("git", "add", "--all")
    made.commit("start")
    return made


def _listed(*options: str) -> list[str]:
    """Files of the working tree that git lists."""
    command = ["git", "ls-files", "-z", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
