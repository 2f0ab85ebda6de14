"""`darkroom predict`: a model's answers for the pictures that somebody names."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import typer

from darkroom.errors import DataError
from darkroom.serving.bulk import Answers, answer_all
from darkroom.serving.inputs import NAMED, Pictures
from darkroom.serving.outputs import as_json, open_output
from darkroom.serving.predictor import Predictor
from darkroom.serving.summary import Summary
from darkroom.utils.console import messages, output, reporter, warn


def run(
    predictor: Predictor,
    pictures: Pictures,
    *,
    introduce: Callable[[], None],
    invert: bool | None,
    to: Path | None,
    to_stdout: bool,
) -> None:
    """Answer for all ``pictures``: in the file ``to``, as JSON to standard output, or as a table.

    ``introduce`` says whose answers they are, once there are some. A picture that cannot be read does not hinder the
    others. Raises DataError if none can be read.
    """
    summary = Summary(predictor.classes)
    with ExitStack() as stack:
        report = stack.enter_context(reporter())
        writers: list[Callable[[Answers], None]] = [summary.add]
        if to is not None:
            writers.append(stack.enter_context(open_output(to, predictor.classes, predictor.version)))
        if to_stdout:
            writers.append(stack.enter_context(_json_to_stdout(predictor)))
        for answers in answer_all(predictor, pictures, invert=invert):
            for write in writers:
                write(answers)
            report("answer", summary.images, pictures.total)
        _refuse_if_none_is_read(summary)
    introduce()
    _tell(summary, pictures)
    if not to_stdout:
        summary.show(output, one_by_one=to is None)
    if to is not None:
        messages.print(f"{to}: {summary.images:,} lines")


@contextmanager
def _json_to_stdout(predictor: Predictor) -> Iterator[Callable[[Answers], None]]:
    """What prints answers as one JSON object, as they come."""
    between = f'{{\n  "version": {json.dumps(predictor.version, ensure_ascii=False)},\n  "predictions": ['

    def write(answers: Answers) -> None:
        nonlocal between
        for answer in as_json(answers, predictor.classes, file="image"):
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


def _tell(summary: Summary, pictures: Pictures) -> None:
    """What a person should know of how the pictures were taken."""
    if summary.unreadable:
        more = ", and so on" if summary.unreadable > NAMED else ""
        warn(f"{summary.unreadable:,} of {summary.images:,} images have no answer: {'; '.join(summary.errors)}{more}")
    if pictures.left_out:
        more = ", and so on" if pictures.left_out > len(pictures.left_out_names) else ""
        warn(f"{pictures.left_out:,} files are not images and were skipped: {', '.join(pictures.left_out_names)}{more}")
    if summary.inverted:
        messages.print(
            f"{summary.inverted:,} of {summary.answered:,} shown to the model as negatives, "
            "like the images it learned from"
        )
    if summary.perhaps_negative:
        warn(
            f"{summary.perhaps_negative:,} of {summary.answered:,} lie on another ground, dark or light, than most "
            "training images probably do; if they are negatives of those, ask again with --invert"
        )
    if summary.unlike:
        messages.print(f"{summary.unlike:,} of {summary.answered:,} are unlike the training images")
