"""The architectures. Importing this package registers every family."""

from darkroom.models import mlp, simple_cnn

__all__ = ["mlp", "simple_cnn"]
