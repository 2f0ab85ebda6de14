"""A trained model as MLflow logs it."""

import copy
import json
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import mlflow.pytorch
import numpy as np
import torch
from mlflow.models import ModelSignature
from mlflow.types.schema import Schema, TensorSpec

from darkroom.models.card import ModelCard
from darkroom.models.classifier import Classifier
from darkroom.tracking.names import model_name
from darkroom.tracking.store import Store
from darkroom.utils.signals import held_back


@held_back()
def log_model(store: Store, key: str, classifier: Classifier, card: ModelCard, example: np.ndarray[Any, Any]) -> str:
    """Log the model of the run ``key`` as exported graph and weights (pt2), which loads without pickle.

    Returns where it lies. Leaves the run FINISHED. ``example`` uint8 [n, C, H, W] holds two images or more: from one
    alone the export would take the batch for fixed.
    """
    assert len(example) > 1, "an example of one image would fix the batch size to 1"
    data = card.dataset_card
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("uint8"), (-1, *data.shape))]),
        Schema([TensorSpec(np.dtype("float32"), (-1, len(data.classes)))]),
    )
    # MLflow logs models to the active run only. Requirements are given because inferring them
    # loads the model in another process and takes a dozen seconds. Nor is the model asked about the example: MLflow
    # would load it once more in this one, and only warn.
    with mlflow.start_run(run_id=store.id_of(key), nested=True):
        logged = mlflow.pytorch.log_model(
            copy.deepcopy(classifier).to(memory_format=torch.contiguous_format),
            name=model_name(card.settings, data),
            serialization_format="pt2",
            signature=signature,
            input_example=example,
            validate_serving_input=False,
            pip_requirements=[f"{name}=={version(name)}" for name in ("torch", "mlflow", "numpy")],
            metadata={
                "classes": list(data.classes),
                "shape": list(data.shape),
                "mean": list(data.mean),
                "fingerprint": data.fingerprint,
                # All of it, so that the model can be taken elsewhere from the registry alone.
                "card": json.loads(json.dumps(asdict(card))),
            },
        )
    return str(logged.model_uri)
