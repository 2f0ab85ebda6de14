"""Training a model to its end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from darkroom.config.settings import Augment, Train
from darkroom.data.batches import Split, place
from darkroom.errors import TrainingError
from darkroom.training.checkpoint import Checkpoint
from darkroom.training.device import choose_device, prepare
from darkroom.training.loop import EpochMetrics, FitResult, TrainingLoop
from darkroom.utils.memory import shortage


def fit(
    model: nn.Module,
    train: Split,
    val: Split,
    settings: Train,
    augment: Augment,
    *,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    on_step: Callable[[], None] = lambda: None,
) -> FitResult:
    """Train ``model``, which maps uint8 images [N, C, H, W] to logits, on ``train``, judged by ``val``.

    Afterwards the model is on the CPU, in evaluation mode, with the weights of the best epoch.
    ``on_epoch`` is called after each epoch (what it raises ends the training), ``on_step`` after each
    optimizer step. With a ``checkpoint`` the state is saved after the first epoch, after the last, and between
    them as often as saving is cheap beside training; a training that was interrupted resumes from it and ends
    with the same bits as one that was not, on the same machine: on a GPU only with train.deterministic.
    Dropout draws from torch's global generator: seed it before building the model.

    Raises TrainingError if the loss of an epoch is not finite, or the memory does not suffice, ConfigError if the
    model cannot be compiled.
    """
    with _enough_memory(settings):
        device = choose_device(settings.device)
        prepare(device, deterministic=settings.deterministic)
        model.to(device)
        train, val = place(device, train, val)
        loop = TrainingLoop(model, train, val, settings, augment, device)
        if checkpoint and (state := checkpoint.load()):
            loop.load_state(state)
            for metrics in loop.result.history:
                on_epoch(metrics)
        loop.warm_up()
        while not loop.finished:
            metrics = loop.run_epoch(on_step)
            if checkpoint and (loop.finished or checkpoint.is_due()):
                checkpoint.save(loop.state())
            on_epoch(metrics)
        model.load_state_dict(loop.best_weights)
        model.cpu().eval()
        return loop.result


@contextmanager
def _enough_memory(settings: Train) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if (said := shortage(problem)) is None:
            raise
        raise TrainingError(
            f"{said}; lower train.batch_size (now {settings.batch_size}), raise train.accumulate (now "
            f"{settings.accumulate}), or lower preprocess.image_size or the sizes of the model, such as model.filters"
        ) from None
