"""Training a model for each fold, and asking it about what it has not seen."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from darkroom.audit import out_of_fold
from darkroom.audit.images import FoldedImages, fold_images
from darkroom.audit.out_of_fold import OutOfFold, ask_each_fold, epochs_of
from darkroom.config import Config
from darkroom.config.settings import Audit, Augment, Model, Train
from darkroom.data.cache import DatasetCard
from darkroom.errors import TrainingError

CPU = torch.device("cpu")
COUNT, CLASSES = 90, 3
CARD = DatasetCard("made", ("a", "b", "c"), (1, 4, 4), (0.5,), (0.3,), {"train": COUNT, "val": 0, "test": 0}, {}, "f")
Ask = Callable[..., OutOfFold]


def config(**train: object) -> Config:
    settings = {"epochs": 4, "batch_size": 16, "lr": 0.02, "precision": "fp32", "device": "cpu", **train}
    return Config(model=Model(name="mlp", hidden=(16,)), train=Train(**settings), audit=Audit(folds=3))


@pytest.fixture
def folded(tmp_path: Path) -> FoldedImages:
    """Images whose class shows in their brightness."""
    generator = np.random.default_rng(0)
    labels = np.arange(COUNT) % CLASSES
    images = generator.integers(0, 60, (COUNT, 1, 4, 4)) + 80 * labels[:, None, None, None]
    blocks = iter([torch.from_numpy(images.astype(np.uint8))])
    return fold_images(blocks, labels, generator.permutation(COUNT) % 3, tmp_path / "images")


@pytest.fixture
def ask(folded: FoldedImages, tmp_path: Path) -> Ask:
    def run(settings: Config, on_epoch: Callable[[int], None] = lambda fold: None, store: str = "store") -> OutOfFold:
        (tmp_path / store).mkdir(exist_ok=True)
        answers = ask_each_fold(settings, CARD, folded, folded.held_out, CPU, tmp_path / store, "key", on_epoch)
        return OutOfFold.gather(answers, folded)

    return run


@pytest.fixture(params=[1, 8], ids=["one at a time", "as one program"])
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(out_of_fold, "most_at_once", lambda config, device: (1, request.param))
    return int(request.param)


def test_answers_are_in_the_order_of_the_images_and_right(ask: Ask, together: int) -> None:
    found = ask(config(epochs=15))
    assert found.logits.shape == (COUNT, CLASSES)
    assert found.features.shape == (COUNT, 16)
    assert (found.logits.argmax(1) == np.arange(COUNT) % CLASSES).mean() > 0.95


def test_labels_at_random_are_not_known_to_models_that_have_not_seen_them(folded: FoldedImages, ask: Ask) -> None:
    noise = np.random.default_rng(5).integers(CLASSES, size=COUNT)
    places = torch.from_numpy(np.concatenate([folded.rows, folded.rows[: int(folded.begins[-2])]]))
    folded.images.labels.copy_(torch.from_numpy(noise)[places])
    found = ask(config(epochs=60))
    # Models that had seen them would know them by heart; three standard errors above guessing.
    assert (found.logits.argmax(1) == noise).mean() < 1 / 3 + 3 * (2 / 9 / COUNT) ** 0.5


def test_together_they_come_to_what_each_comes_to_alone(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = []
    for count in (1, 8):
        monkeypatch.setattr(out_of_fold, "most_at_once", lambda config, device, count=count: (1, count))
        logits.append(ask(config(), store=f"store-{count}").logits)
    np.testing.assert_allclose(*logits, atol=1e-3)


def test_an_interrupted_audit_resumes_and_ends_with_the_same_answers(
    ask: Ask, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("darkroom.training.checkpoint.Checkpoint.is_due", lambda self: True)
    whole = ask(config(), store="whole")
    counted: Counter[int] = Counter()

    def interrupt(fold: int) -> None:
        counted[fold] += 1
        if counted.total() == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(config(), interrupt)
    trained = []
    monkeypatch.setattr(
        out_of_fold.TrainingLoop, "begin_epoch", _counting(out_of_fold.TrainingLoop.begin_epoch, trained)
    )
    resumed = ask(config())
    assert np.array_equal(resumed.logits, whole.logits)
    assert 0 < len(trained) < 3 * 4


def _counting(method: Callable[..., None], calls: list[int]) -> Callable[..., None]:
    def counting(self: object) -> None:
        calls.append(1)
        method(self)

    return counting


def test_a_second_audit_trains_nothing_and_reports_all_epochs(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ask(config())
    monkeypatch.setattr(out_of_fold, "start_classifier", None)
    counted: Counter[int] = Counter()
    second = ask(config(), lambda fold: counted.update([fold]))
    assert np.array_equal(first.logits, second.logits)
    assert counted == {0: 4, 1: 4, 2: 4}


def test_a_loss_that_is_not_finite_is_refused(ask: Ask, together: int) -> None:
    with pytest.raises(TrainingError, match=r"lower train\.lr"):
        ask(config(lr=100.0, optimizer="sgd", epochs=8))


def test_augmented_and_averaged_models_answer_too(ask: Ask) -> None:
    settings = config(ema=0.9).model_copy(update={"augment": Augment(translate=1)})
    assert np.isfinite(ask(settings).logits).all()


def test_epochs_are_those_of_training_but_fewer_for_many_images() -> None:
    assert epochs_of(config(epochs=20), 300) == 20
    assert epochs_of(config(epochs=20), 60_000) == 5
    assert epochs_of(config(epochs=3), 60_000) == 3
    assert epochs_of(config().model_copy(update={"audit": Audit(epochs=7)}), 60_000) == 7
