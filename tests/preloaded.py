"""What processes of the tests begin with: see forkserver.py. torch's optimizers import its compiler."""

import mlflow.pytorch
import optuna
import scipy.stats
import torch._dynamo
from mlflow.store.model_registry import sqlalchemy_store

import darkroom.stages.evaluate
import darkroom.stages.register
import darkroom.stages.search
import darkroom.stages.train

__all__ = ["darkroom", "mlflow", "optuna", "scipy", "sqlalchemy_store", "torch"]
