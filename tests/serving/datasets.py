"""Small datasets of every kind, with a model of random weights that was evaluated on them."""

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from darkroom.config.settings import Model
from darkroom.data import cache
from darkroom.data.batches import read_split
from darkroom.evaluation.logits import predict_logits
from darkroom.evaluation.metrics import measure
from darkroom.evaluation.predictions import write_predictions
from darkroom.evaluation.reference import calibrated
from darkroom.images.decoder import Decoder
from darkroom.models.classifier import build_classifier
from darkroom.prediction.predictor import Predictor
from darkroom.stages.evaluate import fit_reference_of

CLASSES = ("cross", "disc", "line")


def draw(number, ground, generator, *, kind="signs", color=False, size=(20, 20)):
    """A picture of class ``number``: a sign, or noise, on a "dark" or "light" ground."""
    if kind == "noise":
        pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels if ground == "dark" else 255 - pixels // 3)
        return picture if color else picture.convert("L")
    background, foreground = (10, 240) if ground == "dark" else (245, 15)
    picture = Image.new("L", size, background)
    pen = ImageDraw.Draw(picture)
    left, top = generator.integers(4, 7, 2).tolist()
    right, bottom = left + 9, top + 9
    if number == 0:
        pen.line((left, top, right, bottom), foreground, 2)
        pen.line((left, bottom, right, top), foreground, 2)
    elif number == 1:
        pen.ellipse(
            (left, top, right, bottom), fill=foreground if kind == "filled" else None, outline=foreground, width=2
        )
    else:
        pen.line((left, top, left, bottom), foreground, 2)
    if not color:
        return picture
    tint = generator.integers(0, 40, 3)
    return Image.fromarray((np.asarray(picture)[:, :, None] * (1 - tint / 255)).astype(np.uint8))


def evaluated_dataset(root, pictures, shape, model="mlp", seed=0, fit="pad"):
    """A model evaluated on ``pictures``, a list of (split, class, picture).

    Writes the test pictures to ``root``/test/<class>/NNN.png and predictions.csv to ``root``. Returns the predictor
    and the lines of predictions.csv by file.
    """
    names = []
    for row, (split, number, picture) in enumerate(pictures):
        names.append(f"{split}/{CLASSES[number]}/{row:03}.png")
        path = root / names[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    decoder = Decoder(shape[0], tuple(shape[1:]), fit)
    images = np.stack([decoder((root / name).read_bytes()) for name in names])
    labels = np.array([number for _, number, _ in pictures])
    splits = np.array([split for split, _, _ in pictures])
    processed = root / "processed"
    processed.mkdir()
    rows = {split: np.flatnonzero(splits == split) for split in cache.SPLITS}
    card = cache.write(processed, images, labels, rows, name="folder", classes=CLASSES, names=names, settings={})
    torch.manual_seed(seed)
    classifier = build_classifier(Model(name=model), card).eval()
    test = read_split(processed, card, "test")
    logits = predict_logits(classifier, test, 7).numpy()
    train, val = (read_split(processed, card, name) for name in ("train", "val"))
    reference = fit_reference_of(predict_logits(classifier, val, 7).numpy(), train, val, test, 7)
    found = measure(logits, test.labels.numpy(), CLASSES, top_k=2, bins=5)
    probabilities = calibrated(logits, reference.temperature)
    path = root / "predictions.csv"
    write_predictions(found, probabilities, CLASSES, cache.read_names(processed, "test"), path)
    with path.open(newline="") as opened:
        lines = {line["image"]: line for line in csv.DictReader(opened)}
    return Predictor(classifier, CLASSES, shape, "1", card.mean, reference, decoder), lines


def disagreements(predictor, root: Path, lines):
    """What differs between the answers for the test pictures below ``root`` and predictions.csv."""
    found = predictor.predict([root / image for image in lines])
    wrong = []
    for answer, (image, line) in zip(found, lines.items(), strict=True):
        says = (answer.label, answer.probabilities[answer.label], answer.probabilities[line["actual"]])
        said = (line["predicted"], line["calibrated_confidence"], line["calibrated_probability_of_actual"])
        is_near = all(abs(a - float(b)) < 1e-5 for a, b in zip(says[1:], said[1:], strict=True))
        if says[0] != said[0] or not is_near or answer.inverted:
            wrong.append((image, says, said))
    return wrong
