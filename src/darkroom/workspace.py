"""The paths of each stage's files: the one place that knows the project's layout."""

from dataclasses import dataclass
from pathlib import Path

from darkroom.errors import ConfigError


def project_root() -> Path:
    """The root of the checkout, also from inside the copy that `dvc exp run --queue` makes below .dvc/tmp."""
    here = Path.cwd().resolve()
    outside = [parent.parent for parent in (here, *here.parents) if parent.name == ".dvc"]
    return outside[-1] if outside else here


@dataclass(frozen=True)
class Workspace:
    """The directories and files below the project's root."""

    root: Path = Path()

    def check_places(self) -> None:
        """Raises ConfigError if a directory is in the place of a file that a stage writes, or the other way round.

        Writing it would fail at the end of the work.
        """
        files = (self.best_params, self.weights, self.model_card, self.study_journal, self.checkpoint)
        directories = (self.raw(""), self.processed(""), self.report(""), *self.report("").glob("*"))
        wrong = {path: "directory" for path in files if path.is_dir()}
        wrong |= {path: "file" for path in (*directories, *(path.parent for path in files)) if path.is_file()}
        for path, kind in wrong.items():
            raise ConfigError(f"{path}: a {kind}; remove it and run `dvc repro` again")

    def given(self, path: str) -> Path:
        """The path that a setting names: here or, if the copy of a queued experiment lacks it, in the checkout."""
        here, outside = self.root / path, project_root() / path
        return outside if outside.exists() and not here.exists() else here

    def raw(self, dataset: str) -> Path:
        return self.root / "data" / "raw" / dataset

    @property
    def remote(self) -> Path:
        """Files from other machines: in the checkout, where the copies of queued experiments find them."""
        return Workspace(project_root()).raw("remote")

    def processed(self, dataset: str) -> Path:
        return self.root / "data" / "processed" / dataset

    def unfinished(self, dataset: str) -> Path:
        """Outside the stages' outputs, which DVC deletes before it runs: a killed preprocessing resumes from this."""
        return self.root / "data" / "processed" / f".{dataset}.partial"

    @property
    def streamed(self) -> Path:
        """Shards of preprocessed images that arrive while a model is trained."""
        return self.root / "data" / "streamed"

    @property
    def fixes(self) -> Path:
        """What people decided about single images: under version control, unlike the images."""
        return self.root / "data" / "fixes.csv"

    def report(self, stage: str) -> Path:
        return self.root / "reports" / stage

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def recipes(self) -> Path:
        return self.root / "recipes"

    @property
    def best_params(self) -> Path:
        return self.root / "models" / "search" / "best_params.json"

    @property
    def weights(self) -> Path:
        return self.root / "models" / "model.safetensors"

    @property
    def model_card(self) -> Path:
        return self.root / "models" / "model.json"

    @property
    def exported(self) -> Path:
        return self.root / "models" / "exported"

    @property
    def study_journal(self) -> Path:
        """Outside the stages' outputs: DVC deletes those before it runs, and a killed search resumes from this."""
        return self.root / "models" / "checkpoints" / "study.journal"

    @property
    def checkpoint(self) -> Path:
        """Outside the stages' outputs, for the same reason."""
        return self.root / "models" / "checkpoints" / "train.pt"

    @property
    def features(self) -> Path:
        """Features by their keys: in the checkout, where the copies of queued experiments find them."""
        return project_root() / "data" / "features"

    def audit(self, key: str) -> Path:
        """What the models of an audit said, and the checkpoint of the one that is trained."""
        return self.root / "models" / "checkpoints" / "audit" / key[:16]

    def start(self, digest: str) -> Path:
        """The initial weights of a training, also when it resumes after a kill."""
        return self.root / "models" / "checkpoints" / f"start-{digest[:16]}.safetensors"

    @property
    def spools(self) -> Path:
        """Operations not yet sent to an MLflow store: in the checkout, as a queued experiment's copy is deleted."""
        return project_root() / "models" / "checkpoints" / "tracking"
