"""What a training needs to know before it begins: its device, its initial weights and its precision."""

import torch

from darkroom.config import Config
from darkroom.data.cache import DatasetCard
from darkroom.data.stale_images import stale_images
from darkroom.features.task import trained_part
from darkroom.promotion.start_from import InitialWeights, load_initial_weights
from darkroom.training.device import choose_device
from darkroom.training.precision import fastest_precision
from darkroom.training.size import resource_warning
from darkroom.utils.console import messages, warn
from darkroom.workspace import Workspace


def set_up_training(
    config: Config, workspace: Workspace, card: DatasetCard
) -> tuple[Config, torch.device, InitialWeights | None]:
    """The settings with local initial weights and the precision in which `darkroom train` would train.

    Says which weights a training begins with, and warns if it may take too long or too much memory, or if the images
    were preprocessed with other settings.

    Raises ConfigError, ModelError or TrackingError.
    """
    device = choose_device(config.train.device)
    if note := resource_warning(*trained_part(config, card), device):
        warn(note)
    for note in stale_images(config, card, workspace.processed(config.dataset.name)):
        warn(note)
    config, beginning = load_initial_weights(config, workspace, card)
    if beginning:
        messages.print(beginning.line)
    return fastest_precision(*trained_part(config, card), device).put_into(config), device, beginning
