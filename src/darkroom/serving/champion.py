"""The champion of a registry, loaded, and followed from then on."""

from mlflow import MlflowClient

from darkroom.config import Config
from darkroom.serving.loaded_model import load_version
from darkroom.serving.registry_watcher import RegistryWatcher
from darkroom.serving.service import Service
from darkroom.tracking.store import explained
from darkroom.tracking.tracking_uri import tracking_uri


def load_champion(config: Config, client: MlflowClient, service: Service) -> RegistryWatcher:
    """Let ``service`` answer with the champion; what is returned can follow the registry.

    Raises TrackingError if there is no champion or no store, ModelError if it cannot be loaded.
    """
    watcher = RegistryWatcher(
        client, config.registered_model, lambda version: load_version(client, version, config.serve), service
    )
    try:
        watcher.begin()
    except Exception as problem:
        raise explained(problem, tracking_uri()) from problem
    return watcher
