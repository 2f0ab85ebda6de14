"""What features depend on, and where those of it are."""

from pathlib import Path
from typing import cast

from darkroom.config import Config
from darkroom.config.settings.training import NO_CHANGES
from darkroom.data.cache import DatasetCard
from darkroom.features.files import FORMAT_VERSION
from darkroom.models.classifier import Classifier
from darkroom.models.files import weights_digest
from darkroom.models.pretrained import Pretrained
from darkroom.utils.files import digest


def features_directories(place: Path, config: Config, dataset: DatasetCard, whole: Classifier) -> dict[Path, str]:
    """Where features for ``config`` may be below ``place``, and their keys: the first directory is that of new ones.

    A key is the digest of all that features depend on but the number of views: of more views than are needed the first
    are used. Where the images alone are needed, features with views serve too.
    """
    network, augment = cast(Pretrained, whole.network), config.augment
    backbone = network.backbone
    common = {
        "format_version": FORMAT_VERSION,
        "dataset": dataset.fingerprint,
        "backbone": backbone.name,
        "weights": weights_digest(network.model.state_dict()),
        "transform": [list(backbone.mean), list(backbone.std), list(network.input_size), backbone.interpolation],
    }
    drawn = {"augment": augment.model_dump(mode="json", exclude=NO_CHANGES), "seed": config.train.seed}
    plain = [None] if augment.views == 1 else []
    keys = [digest({**common, "drawn": views}) for views in [*plain, *([drawn] if augment.changes_images else [])]]
    return {place / key[:16]: key for key in keys}
