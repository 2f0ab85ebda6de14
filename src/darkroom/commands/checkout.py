"""Restore the code, the settings and the data of a training in a separate directory."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import darkroom
from darkroom.config import Config
from darkroom.config.addresses import is_address
from darkroom.data.cache import CARD
from darkroom.errors import CacheError, DataError, ModelError, TrackingError, TrainingError
from darkroom.promotion.start_from import find_start, keep_start
from darkroom.promotion.training_run import TrainingRun, download_fixes
from darkroom.tracking.tracking_uri import DEFAULT_STORE, sqlite_uri
from darkroom.training.device import choose_device, precisions
from darkroom.utils.console import messages, warn
from darkroom.utils.files import read_json, write_json
from darkroom.workspace import Workspace

SOURCE = "src"
PACKAGE = f"{SOURCE}/darkroom"
# Seconds in which a command that is interrupted may end the processes it began.
GRACE_SECONDS = 3.0
# `python -m darkroom` of any code, which is terminated when the other end of its standard input is closed: a process
# that is killed closes what it holds.
COMMAND = """
import os, runpy, signal, threading

def end():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=end, daemon=True).start()
runpy.run_module("darkroom", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Checkout:
    """A directory where a training runs with its own code: ``source`` holds the package, ``workspace`` the files."""

    training: TrainingRun
    workspace: Workspace
    source: Path

    def darkroom(self, command: str) -> None:
        """Run a command of the training's code here, with the store and the threads that belong to it.

        Raises TrainingError, with what the command said, if it fails.
        """
        is_shown = command == "train"  # it takes long, and shows how far it is
        watched, held = map(open, os.pipe(), ("rb", "wb"))
        with (
            held,
            watched,
            subprocess.Popen(
                [sys.executable, "-c", COMMAND, command],
                cwd=self.workspace.root,
                env=self._environment(),
                stdin=watched,
                stdout=subprocess.DEVNULL,
                stderr=None if is_shown else subprocess.PIPE,
                text=True,
            ) as child,
        ):
            try:
                _, said = child.communicate()
            except BaseException:
                _end(child)  # it writes to the place that is removed next
                raise
        if child.returncode:
            why = said.strip().rpartition("\n")[2].removeprefix("error: ") if said else "see above"
            raise TrainingError(f"{self.training}: `darkroom {command}` of its code failed: {why}")

    def _environment(self) -> dict[str, str]:
        # None of the team's store: runs, files and versions of this training go to one that is thrown away.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        paths = [str(self.source), *filter(None, [os.environ.get("PYTHONPATH")])]
        kept |= {
            "PYTHONPATH": os.pathsep.join(paths),
            "MLFLOW_TRACKING_URI": sqlite_uri((self.workspace.root / DEFAULT_STORE).resolve()),
        }
        threads = self.training.environment.get("system.threads")
        return kept | ({"OMP_NUM_THREADS": threads} if threads else {})


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def bring_code(training: TrainingRun, workspace: Workspace, place: Path) -> tuple[Path, list[str]]:
    """Unpack the code of the training's commit to ``place``.

    Returns the directory of the package (of the current code if git cannot provide the commit), and the reasons why it
    may not be the exact code. Raises TrackingError if the commit is not in this repository.
    """
    if training.commit is None:
        return _use_current_code(training, "says no commit, as of a training outside git")
    if _git(workspace, "rev-parse", "--git-dir") is None:
        return _use_current_code(training, f"is of commit {training.commit[:12]}, but this is no git repository")
    # An archive and no `git worktree`: nothing is left in the repository, however this ends.
    archive = place.with_suffix(".zip")
    if _git(workspace, "archive", f"--output={archive.resolve()}", training.commit, PACKAGE) is None:
        raise TrackingError(
            f"{training}: trained with commit {training.commit[:12]}, and this repository holds no {PACKAGE} of it; "
            "fetch it from where it was committed"
        )
    shutil.unpack_archive(archive, place)
    messages.print(f"reproduce: code of commit {training.commit[:12]}")
    if not training.was_dirty:
        return place / SOURCE, []
    doubt = f"the working tree had changes that commit {training.commit[:12]} does not contain"
    warn(f"{training}: {doubt}; if they were in {SOURCE}/, different code is trained")
    return place / SOURCE, [doubt]


def _use_current_code(training: TrainingRun, why: str) -> tuple[Path, list[str]]:
    warn(f"{training}: {why}; trained with the current code")
    return Path(darkroom.__file__).parents[1], ["the current code is used"]


def _git(workspace: Workspace, *arguments: str) -> str | None:
    """The output of git in the project's root, or None if git fails or is not installed."""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=workspace.root, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def bring_settings(training: TrainingRun, config: Config, workspace: Workspace, checkout: Checkout) -> None:
    """Write params.yaml as the training resolved it, with where the data is found, and how, from today's.

    The weights that it began with are brought along. Raises ModelError or TrackingError if they are no longer there.
    """
    settings = {section: dict(keys) for section, keys in training.settings.items()}
    root = workspace.root.resolve()
    mirror = config.dataset.mirror or os.environ.get("DARKROOM_MIRROR")
    # What was downloaded here need not cross the network again: it lies as in a mirror, and is verified as one.
    mirror = mirror or str(workspace.raw(settings["dataset"]["name"]).parent)
    # Paths are meant from here; what is no path that exists is an address. How it is to be read is not recorded.
    settings["dataset"] |= {
        "labels": config.dataset.labels,
        "encoding": config.dataset.encoding,
        "path": config.dataset.path
        if is_address(config.dataset.path)
        else str(root / Path(config.dataset.path).expanduser()),
        "mirror": str(root / mirror) if (root / mirror).is_dir() else mirror,
    }
    if weights := settings["model"].get("weights_path"):
        settings["model"]["weights_path"] = str(root / weights)
    if wanted := settings.get("train", {}).get("start_from"):
        # From the registry of now, which the training cannot ask where it runs.
        start, _ = find_start(str(wanted), config, workspace)
        if start.digest != training.start_sha256:
            raise ModelError(
                f"{training}: began with the weights {str(training.start_sha256)[:12]} of {wanted}, which now are "
                f"{start.digest[:12]}; restore the original file"
            )
        place = checkout.workspace.root / "start.safetensors"
        keep_start(start, place)
        settings["train"]["start_from"] = str(place.resolve())
    # What "auto" stood for: here it may be something else.
    train, then = settings["train"], training.environment.get("system.precision")
    if then in precisions(choose_device(train["device"])):
        train["precision"] = then
    # Of the evaluation a run holds no settings; this one changes the last digits of its metrics.
    settings["evaluate"] = {"batch_size": config.evaluate.batch_size}
    # JSON is YAML. What a search has found is among the settings already.
    write_json(checkout.workspace.params, settings | {"search": {"trials": 0}})
    write_json(checkout.workspace.best_params, {"params": {}})


def bring_data(training: TrainingRun, workspace: Workspace, checkout: Checkout) -> None:
    """Link the preprocessed data of this checkout if the training used it; otherwise preprocess again.

    Raises DataError if that gives other data, TrainingError if it fails.
    """
    name = training.settings["dataset"]["name"]
    here, there = workspace.processed(name), checkout.workspace.processed(name)
    if _fingerprint(here) == training.fingerprint:
        there.parent.mkdir(parents=True)
        there.symlink_to(here.resolve(), target_is_directory=True)
        checkout.workspace.report("preprocess").mkdir(parents=True)  # which a training takes along
        return
    messages.print(f"reproduce: {here} is not the data {training.fingerprint[:12]} of the run; preprocessing it again")
    if fixes := download_fixes(training, checkout.workspace.root / "fixes"):
        checkout.workspace.fixes.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(fixes, checkout.workspace.fixes)
    if workspace.remote.exists():
        # What was downloaded here need not cross the network again.
        link = checkout.workspace.raw(workspace.remote.name)
        link.parent.mkdir(parents=True)
        link.symlink_to(workspace.remote.resolve(), target_is_directory=True)
    checkout.darkroom("download")
    checkout.darkroom("preprocess")
    found = _fingerprint(there)
    if found != training.fingerprint:
        raise DataError(
            f"{training}: its data, {training.fingerprint[:12]}, is not what download and preprocess now produce: "
            f"{str(found)[:12]}; bring the images of then back, such as by `dvc pull` of its commit"
        )


def _fingerprint(cache: Path) -> str | None:
    try:
        found = read_json(cache / CARD, error=CacheError, made_by="darkroom preprocess")
    except CacheError:
        return None
    return str(found.get("fingerprint"))
