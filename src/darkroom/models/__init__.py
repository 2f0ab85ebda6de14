"""The architectures. Importing this package registers every family."""

from darkroom.models import fast_cnn, mlp, pretrained, resnet, simple_cnn, wide_resnet

__all__ = ["fast_cnn", "mlp", "pretrained", "resnet", "simple_cnn", "wide_resnet"]
