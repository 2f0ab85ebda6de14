"""The files in the bucket of the tests."""

import io

from PIL import Image

BIRDS = "s3://photos/birds"


def picture(seed):
    opened = io.BytesIO()
    Image.effect_noise((8, 8), 10 + seed).save(opened, "PNG")
    return opened.getvalue()


FILES = {f"birds/{label}/{number}.png": picture(number) for label in ("owl", "wren") for number in range(8)}
NAMES = {key.removeprefix("birds/"): content for key, content in FILES.items()}


def contents(place):
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}
