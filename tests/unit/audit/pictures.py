"""Images and findings for the tests of the audit's page."""

import numpy as np

from darkroom.audit.findings import Finding, ImageRef
from darkroom.data.digests import content_digest


class Noise:
    """Images of noise of a shape [C, H, W], named by their rows and labeled in turn."""

    def __init__(self, classes, shape=(1, 28, 28)):
        self.classes, self.shape = classes, shape

    def pixels(self, image):
        return np.random.default_rng(image.row).integers(0, 256, self.shape, np.uint8)

    def label(self, image):
        return self.classes[image.row % len(self.classes)]

    def file(self, image):
        return f"{self.label(image)}/{image.row}.png"

    def finding(self, row, kind="label", *, score=0.5, suggested=None, neighbors=(), split="train"):
        """A finding about the image ``row`` of a split; ``neighbors`` are rows of train."""
        image = ImageRef(split, row)
        near = tuple(ImageRef("train", each) for each in neighbors)
        return Finding(
            kind, image, self.file(image), digest(row), self.label(image), "a reason", score, suggested, near
        )


def digest(row):
    return content_digest(str(row).encode()).hex()
