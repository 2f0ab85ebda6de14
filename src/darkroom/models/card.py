"""model.json, the card of the weights beside it. Reading it needs no torch, which takes seconds to import."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import with_config

from darkroom.data.cache import DatasetCard
from darkroom.errors import ModelError
from darkroom.utils.files import EXACT, check_format, checked, read_json, sha256, write_json

FORMAT_VERSION = 1
MADE_BY = "darkroom train"


@with_config(EXACT)
@dataclass(frozen=True)
class ModelCard:
    """The content of model.json, which describes the weights beside it.

    ``dataset`` is the card of the data it was trained on, ``settings`` every resolved setting as
    {section: {key: value}}, ``facts`` the device, threads, precision and commit of the training, ``run_id`` its
    run in MLflow (the tag ``darkroom.run``), ``weights_sha256`` the digest of the weights' file.
    """

    dataset: dict[str, Any]
    settings: dict[str, dict[str, Any]]
    facts: dict[str, Any]
    best_epoch: dict[str, int | float]
    run_id: str
    weights_sha256: str
    format_version: int = FORMAT_VERSION

    @property
    def dataset_card(self) -> DatasetCard:
        return checked(DatasetCard, self.dataset, "dataset", error=ModelError, made_by=MADE_BY)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a card. Raises ModelError."""
        return cls.parse(read_json(path, error=ModelError, made_by=MADE_BY), path)

    @classmethod
    def parse(cls, found: dict[str, Any], where: Path | str) -> Self:
        """The card from its JSON form, read from ``where``. Raises ModelError."""
        check_format(found, FORMAT_VERSION, where, error=ModelError, made_by=MADE_BY)
        card = checked(cls, found, where, error=ModelError, made_by=MADE_BY)
        checked(DatasetCard, card.dataset, f"{where}: dataset", error=ModelError, made_by=MADE_BY)
        if not isinstance(card.settings.get("model", {}).get("name"), str):
            raise ModelError(f"{where}: damaged (settings.model.name: expected text); run `{MADE_BY}` again")
        return card


def card_of(weights: Path, card_path: Path) -> ModelCard:
    """The card of the model in ``weights``.

    Raises ModelError if a file is missing, damaged, or the two do not belong together.
    """
    card = ModelCard.read(card_path)
    if not weights.is_file():
        raise ModelError(f"{weights}: not found; run `{MADE_BY}` first")
    if sha256(weights) != card.weights_sha256:
        raise ModelError(f"{weights}: not the weights that {card_path} describes, or damaged; run `{MADE_BY}` again")
    return card


def save_card(card: ModelCard, path: Path) -> None:
    write_json(path, asdict(card))
