"""A version that needs no training: it tells dark images from bright ones."""

import io

import numpy as np
from PIL import Image

from darkroom.data.glyph_layout import GlyphLayout
from darkroom.evaluation.prediction_sets import LabelScores, PredictionSets
from darkroom.evaluation.reference import Reference
from darkroom.serving.loaded_model import GalleryImage, LoadedModel
from darkroom.serving.preprocessing import Transform
from darkroom.serving.runtime import Runtime

CLASSES = ("dark", "bright")
SHAPE = (1, 4, 4)
REFERENCE = Reference(
    temperature=2.0, confidence=0.9, class_shares=(0.5, 0.5), energy_threshold=-6.0, unlike_share=0.01, images=100
)


def sets_of(threshold):
    """Prediction sets of the labels whose score reaches a threshold."""
    ranks = LabelScores((), (tuple(np.linspace(-10, -4, 101).tolist()),), (), (), ())
    return PredictionSets(ranks, np.full(2, threshold), 0.95, 1.1)


def brightness(images):
    """Logits 10 for black and white, and less for what is between; uint8 [N, C, H, W] to float32 [N, 2]."""
    light = images.astype(np.float32).mean((1, 2, 3)) / 255
    return np.stack([1 - light, light], 1) * 10


def png(shade, size=(4, 4), mode="L"):
    """An image file of one shade."""
    written = io.BytesIO()
    Image.new(mode, size, shade).save(written, "PNG")
    return written.getvalue()


def png_of(pixels):
    """The image file of gray pixels uint8 [1, H, W]."""
    written = io.BytesIO()
    Image.fromarray(pixels[0]).save(written, "PNG")
    return written.getvalue()


def make_loaded(
    version="1", *, infer=brightness, seconds=0.0, shape=SHAPE, reference=REFERENCE, has_layout=False, sets=None
):
    about = {
        "name": "shades",
        "version": version,
        "architecture": "mlp",
        "dataset": "folder",
        "classes": list(CLASSES),
        "shape": list(shape),
        "metrics": {"accuracy": 0.9},
        "fingerprint": "f" * 64,
        "run_id": "0" * 32,
        "trained_at": "2026-01-01T00:00:00+00:00",
        "parameters": 2,
    }
    return LoadedModel(
        name="shades",
        version=version,
        classes=CLASSES,
        shape=shape,
        transform=Transform(shape, None, GlyphLayout(0.5, by_mass=True, stroke=1.0) if has_layout else None),
        runtime=Runtime("torch", infer, seconds),
        reference=reference,
        gallery=[GalleryImage(png(0), "dark", "dark"), GalleryImage(png(255), "bright", "bright")],
        confusion={"classes": list(CLASSES), "counts": [[9, 1], [1, 9]]},
        report="<title>é</title>".encode(),
        about=about,
        sets=sets,
    )
