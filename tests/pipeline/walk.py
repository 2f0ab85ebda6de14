"""A project, and what people do in it: DVC, git, MLflow and Darkroom really run, in this process to start up once."""

import contextlib
import gc
import hashlib
import io
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest import mock

from mlflow import MlflowClient
from tests.clone import IDENTITY, Clone
from tests.forkserver import context
from tests.stages import Ended, inside, run_command

from darkroom.commands.doctor import pipeline
from darkroom.commands.doctor.finding import Finding
from darkroom.commands.doctor.run import examine
from darkroom.config import load
from darkroom.tracking.tracking_uri import tracking_uri
from darkroom.workspace import Workspace

NAME = "darkroom-digits"
SEEDS = (0, 1, 2)
# Git ignores it, as it ignores mlflow.db: an experiment would replace the file below whoever has it open.
OTHER = "models/other.db"
ADVICE = re.compile(r"`(dvc repro|darkroom [a-z -]+)`")


class Walk:
    """Steps, each a method of a name in ``STEPS``; ``check`` after each one. ``said`` is what was done and said."""

    STEPS = (
        "repro", "repro", "repro", "experiment", "queued_experiment", "apply", "commit", "checkout", "move", "copy",
        "register", "promote", "force", "rollback", "delete_run", "collect_garbage", "kill", "other_store",
        "edit_alias",
    )  # fmt: skip

    def __init__(self, clone: Clone, seed: int) -> None:
        self.root = clone.root
        self.place = clone.root.parent
        self.random = random.Random(seed)
        self.environment = dict(clone.environment({}))
        self.store: dict[str, str] = {}
        self.said: list[str] = []
        self.moves = self.copies = 0

    # --- the commands -------------------------------------------------------------------------------------

    def darkroom(self, *arguments: str) -> Ended:
        ended = run_command(self.root, *arguments, **self.store)
        self.said.append(f"darkroom {' '.join(arguments)}: {ended.code} {ended.errors.strip()}")
        assert ended.code in (0, 2, 3), ended.errors
        if ended.code == 2:
            errors = [line for line in ended.errors.splitlines() if line.startswith("error: ")]
            assert len(errors) == 1, ended.errors
            assert "`" in errors[0] or "choose from" in errors[0], f"nothing that helps: {errors[0]}"
        return ended

    def dvc(self, *arguments: str) -> tuple[int, str]:
        """Run DVC; a stage's command is run in this process too."""
        from dvc.cli import main
        from dvc.stage.exceptions import StageCmdFailedError

        def run(executable: str, command: str, *, cwd: str, **options: object) -> None:
            ended = run_command(Path(cwd), *command.split()[1:], **self.store)
            self.said.append(f"  {command}: {ended.code} {ended.errors.strip()}")
            if ended.code:
                raise StageCmdFailedError(command, ended.code)

        output = io.StringIO()
        with (
            inside(self.root, **self.store),
            mock.patch("dvc.stage.run._run", run),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            # DVC leaves git's files open. They are closed now, or the warning of it would meet some later test.
            warnings.simplefilter("ignore", ResourceWarning)
            code = main(list(arguments))
            gc.collect()
        self.said.append(f"dvc {' '.join(arguments)}: {code}")
        return code, output.getvalue()

    def git(self, *arguments: str) -> str:
        command = ["git", *IDENTITY, *arguments]
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout

    def step(self, number: int) -> None:
        """Do what comes to mind."""
        name = self.random.choice(self.STEPS)
        self.said.append(f"step {number}: {name}")
        getattr(self, name)()

    # --- the steps ----------------------------------------------------------------------------------------

    def repro(self) -> None:
        seed = self.random.choice(SEEDS)
        self.train_with(seed)
        self.dvc("repro")

    def experiment(self) -> None:
        self.dvc("exp", "run", "-S", f"train.seed={self.random.choice(SEEDS)}")

    def queued_experiment(self) -> None:
        self.dvc("exp", "run", "--temp", "-S", f"train.seed={self.random.choice(SEEDS)}")

    def apply(self) -> None:
        names = self.git("for-each-ref", "--format=%(refname)", "refs/exps").split()
        named = [name.rsplit("/", 1)[1] for name in names if name.count("/") == 4]
        if named:
            self.dvc("exp", "apply", self.random.choice(named))

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=a step")

    def checkout(self) -> None:
        """What a commit before had, and the files that DVC has of it."""
        commit = self.random.choice(self.git("log", "--format=%H").split())
        self.git("checkout", "--quiet", commit, "--", ".")
        self.dvc("checkout", "--force")

    def move(self) -> None:
        self.moves += 1
        moved = self.place / f"moved {self.moves}"
        self.root.rename(moved)
        self.root = moved

    def copy(self) -> None:
        """A copy is worked in, which the original must not feel."""
        original, before = self.root, _contents(self.root)
        # Where no copy was before: MLflow keeps the databases of a process open.
        self.copies += 1
        self.root = self.place / f"a copy {self.copies}"
        shutil.copytree(original, self.root, symlinks=True)
        try:
            self.check()
            self.repro()
            self.check()
        finally:
            shutil.rmtree(self.root)
            self.root = original
        assert _contents(self.root) == before

    def register(self) -> None:
        self.darkroom("register")

    def promote(self) -> None:
        self.darkroom("promote", self.random.choice(["here", "challenger", "1", "2"]))

    def force(self) -> None:
        self.darkroom("promote", self.random.choice(["here", "1", "2"]), "--force", "--reason", "a walk")

    def rollback(self) -> None:
        self.darkroom("rollback")

    def delete_run(self) -> None:
        with self._client() as client:
            if runs := client and _trainings(client):
                client.delete_run(self.random.choice(runs))

    def collect_garbage(self) -> None:
        from click.testing import CliRunner
        from mlflow.cli import gc

        with inside(self.root, **self.store):
            address = tracking_uri()
            if (self.root / "mlflow.db").exists() or self.store:
                CliRunner().invoke(gc, ["--backend-store-uri", address])

    def kill(self) -> None:
        """A stage is killed at whatever it does."""
        stage = self.random.choice(["preprocess", "train", "evaluate", "register"])
        child = context().Process(target=run_command, args=(self.root, stage), kwargs=self.store)
        child.start()
        child.join(self.random.uniform(0, 3))
        child.kill()
        child.join()
        self.said.append(f"kill -9 of {stage}: {child.exitcode}")

    def other_store(self) -> None:
        self.store = {} if self.store else {"MLFLOW_TRACKING_URI": f"sqlite:///{OTHER}"}

    def edit_alias(self) -> None:
        with self._client() as client:
            if client and (versions := client.search_model_versions(f"name = '{NAME}'")):
                version = self.random.choice(versions).version
                client.set_registered_model_alias(NAME, self.random.choice(["champion", "challenger"]), version)

    def train_with(self, seed: int) -> None:
        from tests.conftest import QUICK
        from tests.defaults import write_params

        write_params(self.root, **QUICK, train__seed=seed)

    # --- what must hold -----------------------------------------------------------------------------------

    def check(self) -> None:
        """The doctor finds nothing, or names commands after which it finds nothing; and what it says is true."""
        for _ in range(4):
            wrong = [each for each in self.examine() if each.is_wrong]
            if not wrong:
                break
            self.said += [f"  wrong: {each.area}: {each.line}" for each in wrong]
            advice = ADVICE.search(wrong[0].line)
            if wrong[0].repair:
                self.darkroom("doctor", "--fix")
            elif advice and advice[1].startswith("dvc"):
                self.dvc("repro")
            else:
                assert advice, f"no command that helps: {wrong[0].line}"
                self.darkroom(*advice[1].split()[1:])
        assert not wrong, wrong
        self._check_registration()

    def examine(self) -> list[Finding]:
        with (
            inside(self.root, **self.store),
            mock.patch.object(pipeline, "start"),
            mock.patch.object(pipeline, "check", return_value=()),
        ):
            return list(examine(load(Path("params.yaml")), Workspace()))

    def _check_registration(self) -> None:
        """What the commands say of the model in the working tree and of the champion is what the database holds."""
        weights = self.root / "models" / "model.safetensors"
        if not weights.exists() or not (self.root / "reports" / "evaluate" / "metrics.json").exists():
            return
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        query = (
            "SELECT v.version FROM model_versions v JOIN model_version_tags t ON t.name = v.name AND t.version = "
            "v.version WHERE v.name = ? AND t.key = 'darkroom.weights_sha256' AND t.value = ?"
        )
        with closing(sqlite3.connect(self.root / (OTHER if self.store else "mlflow.db"))) as database:
            versions = {str(version) for (version,) in database.execute(query, (NAME, digest))}
            champion = database.execute(
                "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'champion'", (NAME,)
            ).fetchone()
        found = json.loads(self.darkroom("results", "--json").output)["registered"]
        assert (found and found["version"]) in (versions or {None})
        picture = next((self.root / "reports" / "evaluate" / "gallery").glob("*.png"))
        answer = self.darkroom("predict", "--json", str(picture))
        if champion:
            assert answer.code == 0
            assert json.loads(answer.output)["version"] == str(champion[0])
        else:
            assert "has no champion" in answer.errors

    @contextlib.contextmanager
    def _client(self) -> Iterator[MlflowClient | None]:
        """A client of the store, None if there is none yet."""
        with inside(self.root, **self.store):
            path = self.root / (OTHER if self.store else "mlflow.db")
            yield MlflowClient(tracking_uri()) if path.exists() else None


def _trainings(client: MlflowClient) -> list[str]:
    experiment = client.get_experiment_by_name("darkroom")
    found = client.search_runs([experiment.experiment_id], "tags.`darkroom.kind` = 'train'") if experiment else []
    return [run.info.run_id for run in found]


def _contents(root: Path) -> dict[str, int]:
    """The files of a project with their sizes, without those of git and DVC."""
    found = {}
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if name not in {".git", ".dvc"}]
        for name in files:
            path = Path(directory, name)
            found[str(path.relative_to(root))] = path.stat().st_size
    return found
