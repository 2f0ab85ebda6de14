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


def features_key(config: Config, dataset: DatasetCard, whole: Classifier) -> str:
    """The digest of all that features depend on."""
    network = cast(Pretrained, whole.network)
    backbone, views = network.backbone, config.augment.views
    drawn = {"augment": config.augment.model_dump(mode="json", exclude=NO_CHANGES), "seed": config.train.seed}
    return digest(
        {
            "format_version": FORMAT_VERSION,
            "dataset": dataset.fingerprint,
            "backbone": backbone.name,
            "weights": weights_digest(network.model.state_dict()),
            "transform": [list(backbone.mean), list(backbone.std), list(network.input_size), backbone.interpolation],
            "views": views,
            "drawn": drawn if views > 1 else None,
        }
    )


def features_directory(place: Path, key: str) -> Path:
    """Where the features of ``key`` are below ``place``."""
    return place / key[:16]
