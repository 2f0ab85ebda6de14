"""`darkroom predict`: run a model on images and print or write its predictions."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import typer

from darkroom.config import Config
from darkroom.errors import DataError, ModelError, counted, did_you_mean
from darkroom.models.registry import architectures
from darkroom.prediction.bulk import BatchPredictions, answer_all
from darkroom.prediction.heat_maps import Draw, check_directory, open_heat_maps
from darkroom.prediction.inputs import InputImages
from darkroom.prediction.outputs import as_json as answers_as_json
from darkroom.prediction.outputs import check_output, open_output
from darkroom.prediction.parts import answer_here, answer_in_parts, open_parts
from darkroom.prediction.predictor import Predictor
from darkroom.prediction.shards import NAMED, Shard
from darkroom.prediction.summary import Summary
from darkroom.serving.class_check import warn_of_other_classes
from darkroom.tracking.tracker import registry_client
from darkroom.utils.console import messages, output, reporter, warn
from darkroom.utils.scratch import scratch_directory
from darkroom.workspace import Workspace


def run(
    config: Config,
    workspace: Workspace,
    images: Sequence[str],
    *,
    weights: Path | None,
    model: str | None,
    invert: bool | None,
    to: Path | None,
    as_json: bool,
    explain: Path | None,
    ray_address: str | None,
) -> None:
    """Classify all ``images`` with the champion, or with a file of ``weights`` of the architecture ``model``.

    The predictions go to the file ``to``, as JSON to standard output, or are printed as a table, and heat maps to the
    directory ``explain``. A picture that cannot be read does not stop the others. With a ``ray_address``, the Ray
    cluster there answers. An interrupted command continues when it is run again, unless it draws heat maps.

    Raises DataError if no picture can be read, TrackingError or ModelError if there is no model.
    """
    if to is not None:
        check_output(to)
    if explain is not None:
        check_directory(explain)
        if ray_address is not None:
            raise DataError("--explain: heat maps are drawn on this machine alone; leave out --ray-address")
    with ExitStack() as stack:
        report = stack.enter_context(reporter())
        pictures = InputImages(images, encoding=config.dataset.encoding, report=report)
        predictor = (
            _champion(config, workspace) if weights is None else _predictor_from(weights, model, config, workspace)
        )
        found = stack.enter_context(
            _answers(
                predictor,
                pictures,
                invert=invert,
                to=to,
                ray_address=ray_address,
                draw=None if explain is None else stack.enter_context(open_heat_maps(explain, predictor)),
                report=lambda done: report("answer", done, pictures.total),
            )
        )
        summary = Summary(predictor.classes)
        writers: list[Callable[[BatchPredictions], None]] = [summary.add]
        if to is not None:
            writers.append(stack.enter_context(open_output(to, predictor.classes, predictor.version)))
        if as_json:
            writers.append(stack.enter_context(_json_to_stdout(predictor)))
        for answers in found:
            for write in writers:
                write(answers)
        _refuse_if_none_is_read(summary)
    _introduce(predictor, weights, config, workspace)
    _print_notes(summary, pictures)
    if not as_json:
        summary.show(output, one_by_one=to is None)
    if to is not None:
        messages.print(f"{to}: {summary.images:,} lines")
    if explain is not None:
        messages.print(f"{explain}: {counted(summary.answered, 'heat map')}")


@contextmanager
def _answers(
    predictor: Predictor,
    pictures: InputImages,
    *,
    invert: bool | None,
    to: Path | None,
    ray_address: str | None,
    draw: Draw | None,
    report: Callable[[int], None],
) -> Iterator[Iterator[BatchPredictions]]:
    """The answers in the order of the pictures: at once, or by way of parts if there is more than one shard.

    Parts hold no heat maps, so all are drawn at once.
    """
    at_once = draw is not None or to is None or len(list(islice(pictures.shards(), 2))) < 2
    if ray_address is None and at_once:
        yield _counted(answer_all(predictor, pictures.shards(), invert=invert, draw=draw), report)
        return
    with ExitStack() as stack:
        identity = predictor.identity() | {"--invert": str(invert)}
        place = stack.enter_context(scratch_directory() if to is None else open_parts(to, identity))
        if ray_address is None:
            answer = partial(answer_here, predictor, invert=invert, report=report)
        else:
            from darkroom.prediction import cluster  # only here: Ray is an extra

            ray = stack.enter_context(cluster.connected(ray_address))
            answer = partial(cluster.answer_on, ray, predictor, invert=invert, report=report)
        yield answer_in_parts(place, pictures.shards(), predictor.classes, answer)


def _counted(
    answers: Iterator[tuple[Shard, BatchPredictions]], report: Callable[[int], None]
) -> Iterator[BatchPredictions]:
    done = 0
    for _, batch in answers:
        done += len(batch.pictures)
        report(done)
        yield batch


def _introduce(predictor: Predictor, weights: Path | None, config: Config, workspace: Workspace) -> None:
    """Print the version that is used, and warn if its classes are not those of the dataset here."""
    who = str(weights or f"{config.registered_model} version {predictor.version}")
    if weights is None:
        messages.print(f"predict: {who} answers")
    warn_of_other_classes(who, predictor.classes, workspace.processed(config.dataset.name))


def _champion(config: Config, workspace: Workspace) -> Predictor:
    return Predictor.champion(registry_client(workspace), config.registered_model, config.serve)


def _predictor_from(weights: Path, model: str | None, config: Config, workspace: Workspace) -> Predictor:
    if model is not None and model not in architectures():
        raise ModelError(f"--model: no architecture {model!r}; {did_you_mean(model, architectures())}")
    return Predictor.from_weights(weights, model, config, workspace)


@contextmanager
def _json_to_stdout(predictor: Predictor) -> Iterator[Callable[[BatchPredictions], None]]:
    """A function that prints the predictions as one JSON object, batch by batch."""
    between = f'{{\n  "version": {json.dumps(predictor.version, ensure_ascii=False)},\n  "predictions": ['

    def write(answers: BatchPredictions) -> None:
        nonlocal between
        for answer in answers_as_json(answers, predictor.classes, file="image"):
            text = json.dumps(answer, ensure_ascii=False, indent=2).replace("\n", "\n    ")
            typer.echo(f"{between}\n    {text}", nl=False)
            between = ","

    yield write
    typer.echo("\n  ]\n}")


def _refuse_if_none_is_read(summary: Summary) -> None:
    if summary.answered:
        return
    if not summary.images:
        raise DataError("no images found")
    if summary.images == 1:
        raise DataError(summary.errors[0])
    raise DataError(f"none of {summary.images:,} images can be read; the first is {summary.errors[0]}")


def _print_notes(summary: Summary, pictures: InputImages) -> None:
    """Print which images were skipped, inverted, or unlike the training images."""
    if summary.unreadable:
        more = ", and so on" if summary.unreadable > NAMED else ""
        warn(f"{summary.unreadable:,} of {summary.images:,} images have no answer: {'; '.join(summary.errors)}{more}")
    if pictures.left_out:
        more = ", and so on" if pictures.left_out > len(pictures.left_out_names) else ""
        files = counted(pictures.left_out, "file")
        warn(f"skipped {files} without an image: {', '.join(pictures.left_out_names)}{more}")
    if summary.inverted:
        messages.print(
            f"{summary.inverted:,} of {summary.answered:,} shown to the model as negatives, like the training images"
        )
    if summary.perhaps_negative:
        warn(
            f"{summary.perhaps_negative:,} of {summary.answered:,} have another background, dark or light, than most "
            "training images probably have; if they are negatives of those, try again with --invert"
        )
    if summary.unlike:
        messages.print(f"{summary.unlike:,} of {summary.answered:,} are unlike the training images")
