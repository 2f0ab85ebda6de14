"""The images that a page of findings shows."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from darkroom.audit.findings import ImageRef


class Images(Protocol):
    """Where a page finds the images that findings name."""

    def pixels(self, image: ImageRef) -> NDArray[np.uint8]:
        """uint8 [C, H, W], gray or RGB."""

    def label(self, image: ImageRef) -> str: ...

    def file(self, image: ImageRef) -> str: ...
