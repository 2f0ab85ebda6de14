"""Stage 5: measure the model on the test split, once."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from darkroom.config import Config
from darkroom.config.settings import Evaluate
from darkroom.data.batches import CPU, Split, read_split
from darkroom.data.cache import DatasetCard, read_digests, read_groups, read_leaked, read_names
from darkroom.data.glyph_layout import common_ground, measure_glyphs
from darkroom.data.shard_store import ShardStore
from darkroom.data.stale_images import stale_images
from darkroom.data.streaming import open_store
from darkroom.errors import CacheError, ModelError
from darkroom.evaluation.corrupted_images import measure_robustness
from darkroom.evaluation.cross_validated import beside
from darkroom.evaluation.leaks import confirm_leaked, without_leaked
from darkroom.evaluation.logits import predict_logits
from darkroom.evaluation.measurement import measure_all
from darkroom.evaluation.metrics import Evaluation
from darkroom.evaluation.neighbors import TrainNeighbors
from darkroom.evaluation.notes import caveats, describe_sets, headline, leak_lines
from darkroom.evaluation.outputs import write_outputs
from darkroom.evaluation.page import REPORT
from darkroom.evaluation.page.pictures import MAX_SHOWN, NamedImages
from darkroom.evaluation.page.tables import read_curves
from darkroom.evaluation.page.write import write_report
from darkroom.evaluation.predictions import IDENTITY, PREDICTIONS, Identity, write_predictions
from darkroom.evaluation.reference import REFERENCE, Reference, calibrated, energies, fit_reference
from darkroom.evaluation.robustness import Robustness
from darkroom.evaluation.robustness_report import write_robustness
from darkroom.evaluation.slices import as_json, describe_named, find_slices, large_slices
from darkroom.evaluation.slicing import CONFUSION, by_confusion, divide
from darkroom.evaluation.training_curves import HISTORY
from darkroom.explanation.explainer import Explainer
from darkroom.explanation.figures import write_heat_maps
from darkroom.features.known import Known, find_known
from darkroom.models.classifier import Classifier
from darkroom.models.files import load_classifier
from darkroom.models.network import record_features
from darkroom.training.device import set_tf32
from darkroom.utils.allocator import keep_freed_memory
from darkroom.utils.console import messages, progress, warn
from darkroom.utils.files import atomic_directory, sha256, write_json
from darkroom.utils.memory import shortage
from darkroom.workspace import Workspace

# Of the train split, enough to know how its images are laid out.
LAYOUT_IMAGES = 2000
SLICES = "slices.json"


def run(config: Config, workspace: Workspace) -> None:
    """Write reports/evaluate. Raises ModelError, CacheError or ConfigError."""
    keep_freed_memory()
    dataset = DatasetCard.read(workspace.processed(config.dataset.name))
    with open_store(config.data.local_cache_gb, workspace, dataset, ("val", "test")) as store:
        _evaluate(config, workspace, dataset, store)


def _evaluate(config: Config, workspace: Workspace, dataset: DatasetCard, store: ShardStore | None) -> None:
    directory = workspace.processed(config.dataset.name)
    for note in stale_images(config, dataset, directory):
        warn(note)
    classifier, card = load_classifier(workspace.weights, workspace.model_card)
    if card.dataset_card.fingerprint != dataset.fingerprint:
        raise CacheError(
            f"{workspace.weights}: trained on other data ({card.dataset_card.name} "
            f"{card.dataset_card.fingerprint[:12]}) than {directory} holds ({dataset.name} "
            f"{dataset.fingerprint[:12]}); run `darkroom train` again"
        )
    val, test = (read_split(directory, dataset, name, store) for name in ("val", "test"))
    train = _train_if_here(directory, dataset, store)
    wanted = config.evaluate.slices
    slicing, left_out = divide(directory, test, wanted)
    batch_size = config.evaluate.batch_size
    logits, features = _predict(classifier, test, batch_size)
    known = find_known(workspace, card, classifier)
    head, given = (known.head, known.val) if known else (classifier, val)
    val_logits = predict_logits(head, given, given.at_once(batch_size, CPU)).numpy()
    reference = fit_reference_of(val_logits, train, val, test, batch_size)
    probabilities = calibrated(logits, reference.temperature)
    sets = reference.prediction_sets(config.serve, dataset.classes, warn)
    members = sets.of(probabilities, energies(logits)) if sets else None
    found = measure_all(classifier, logits, test, dataset.classes, config.evaluate, reference.temperature, members)
    resembling, leaked = _leaked(classifier, train, val, test, dataset, directory, batch_size)
    found = replace(found, summary=found.summary | without_leaked(found, leaked))
    correct, compared = found.predicted == found.labels, dict(slicing)
    robustness = _measure_robustness(classifier, test, correct, config.evaluate, config.train.device)
    if robustness:
        found = replace(found, summary=found.summary | robustness.metrics)
    if wanted is None or CONFUSION in wanted:
        compared[CONFUSION] = by_confusion(found.probabilities, found.labels, dataset.classes)
    slices = find_slices(correct, large_slices(compared))
    report = workspace.report("evaluate")
    warnings = caveats(found, dataset.classes)
    if line := describe_named(slices):
        warnings.append(f"{line}; {report / SLICES} lists them")
    for line in warnings:
        warn(line)
    small = beside(len(test), workspace.report("audit"), dataset.fingerprint)
    notes = [headline(found), *([describe_sets(found, sets.coverage)] if sets else [])]
    notes += [str(robustness)] if robustness else []
    notes += [*([small] if small else []), *leak_lines(found, resembling, leaked)]
    with atomic_directory(report) as written:
        write_outputs(found, test.pixels, dataset.classes, slices, written)
        _explain(classifier, test, found, dataset, written)
        write_json(written / SLICES, as_json(slices, correct, left_out))
        if robustness:
            write_robustness(robustness, test.pixels[np.array([len(test) // 2])][0], written)
        names, digests = read_names(directory, "test"), read_digests(directory, "test")
        write_predictions(
            found, probabilities, dataset.classes, names, written / PREDICTIONS, digests, slicing, members
        )
        reference.write(written / REFERENCE)
        identity = Identity(card.weights_sha256, dataset.fingerprint, sha256(written / PREDICTIONS))
        write_json(written / IDENTITY, asdict(identity))
        write_report(
            written / REPORT,
            found,
            logits,
            NamedImages(test, names, slicing),
            _neighbors(classifier, train, known, features, directory, batch_size, len(val) + len(test)),
            classes=dataset.classes,
            about={
                "dataset": dataset.name,
                "model": card.settings["model"]["name"],
                "weights": card.weights_sha256[:12],
            },
            reference=reference,
            bins=config.evaluate.calibration_bins,
            slices=slices,
            warnings=warnings,
            notes=notes,
            sets=members,
            figures=written,
            curves=read_curves(workspace.report("train") / HISTORY, card.best_epoch),
        )
    for line in notes:
        messages.print(f"evaluate: {line}")


def _predict(classifier: Classifier, test: Split, batch_size: int) -> tuple[NDArray[np.float32], Tensor | None]:
    """The logits [N, classes], and the features float16 [N, D] if their neighbors will be looked for."""
    at_once = test.at_once(batch_size, CPU)
    if len(test) > MAX_SHOWN:
        return predict_logits(classifier, test, at_once).numpy(), None
    with record_features(classifier) as features:
        logits = predict_logits(classifier, test, at_once)
    return logits.numpy(), torch.cat(features)


def _train_if_here(directory: Path, dataset: DatasetCard, store: ShardStore | None) -> Split | None:
    """The train split; None if it is larger than this disk."""
    is_here = store is None or all(map(store.has, dataset.shards["train"]))
    return read_split(directory, dataset, "train") if is_here else None


def _neighbors(
    classifier: Classifier,
    train: Split | None,
    known: Known | None,
    features: Tensor | None,
    directory: Path,
    batch_size: int,
    evaluated: int,
) -> TrainNeighbors | None:
    """Where the neighbors of test images are found, if the train images are here.

    Of these as many as were ``evaluated``, so that the report takes about as long as the evaluation. ``features`` are
    those of the test images, if they were kept.
    """
    if train is None:
        return None
    described = (known.head, known.train) if known else None
    return TrainNeighbors(classifier, train, read_names(directory, "train"), evaluated, batch_size, described, features)


def fit_reference_of(
    logits: NDArray[np.float32], train: Split | None, val: Split, test: Split, batch_size: int
) -> Reference:
    """The reference of a model with these ``logits`` [N, classes] of ``val``, from this and ``train`` if it is here.

    Of ``test``, only the background is used: if one image has another background than all others, such a picture is
    not a negative.
    """
    known = train or val
    some = torch.arange(0, len(known), max(1, len(known) // LAYOUT_IMAGES))
    layout = measure_glyphs(known.take(some, CPU)[0].numpy())
    batches = (images.numpy() for split in (train, val, test) if split for images, _ in split.in_order(batch_size, CPU))
    ground = common_ground(batches) if layout else "mixed"
    return fit_reference(logits, val.labels.numpy(), layout, ground)


def _leaked(
    classifier: Classifier,
    train: Split | None,
    val: Split,
    test: Split,
    dataset: DatasetCard,
    directory: Path,
    batch_size: int,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The test images that resemble one of train or val by their pixels, bool [N], and those of them that leak.

    All of them count as leaks where the train images, with which the model could compare them, are not here.
    """
    resembling = read_leaked(directory, "test", len(test))
    if train is None or not resembling.any():
        return resembling, resembling
    groups = read_groups(directory, sum(dataset.sizes.values()))
    return resembling, confirm_leaked(classifier, train, val, test, resembling, groups, batch_size)


def _explain(classifier: Classifier, test: Split, found: Evaluation, dataset: DatasetCard, directory: Path) -> None:
    """Write the heat maps; a warning if they take too long or too much memory, which the evaluation does not need."""
    try:
        write_heat_maps(test.pixels, found, dataset.classes, Explainer(classifier, dataset.shape), directory)
    except ModelError as problem:
        warn(f"evaluate: no {problem}")
    except (MemoryError, RuntimeError, OSError) as problem:
        if not (reason := shortage(problem)):
            raise
        warn(f"evaluate: no heat maps: {reason}")


def _measure_robustness(
    classifier: Classifier, test: Split, correct: NDArray[np.bool_], settings: Evaluate, wanted: str
) -> Robustness | None:
    """The robustness if it is wanted, measured on a GPU if there is one, unless training is ``wanted`` on the CPU."""
    if settings.corruptions == "none":
        return None
    device = torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
    set_tf32(device, "fp32")
    with progress() as display:
        task = display.add_task("evaluate: corrupted images", total=len(test), note="")
        model = classifier.to(device)
        found = measure_robustness(
            model, test, correct, settings.batch_size, device, lambda images: display.advance(task, images)
        )
    classifier.to(CPU)
    return found
