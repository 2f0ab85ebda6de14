"""Recognize image files by their first bytes or their suffix."""

import re

HEAD_BYTES = 64
FORMATS = "png, jpeg, gif, webp, bmp, tiff, ppm, avif, jpeg 2000"
IMAGE_SUFFIX = re.compile(
    r"\.(a?png|jpe?g|jpe|jfif|jif|mpo|gif|webp|bmp|dib|tiff?|tf8|btf|p[bgnp]m|pfm|avifs?|jp2|jp[cfx]|j2[ck])"
)
# Raw files of cameras are TIFF too, but what Pillow finds in them is a preview the size of a stamp.
RAW_SUFFIX = re.compile(r"\.(3fr|arw|cr2|dng|erf|iiq|kdc|mef|mos|nef|nrw|pef|raw|rw2|sr2|srw)")

SIGNATURES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",  # JPEG
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0\x08\0\0\0",  # BigTIFF
    b"MM\0+\0\x08\0\0",
    b"\xff\x4f\xff\x51",  # JPEG 2000: its code alone, and in its box
    b"\0\0\0\x0cjP  \r\n\x87\n",
)
# "BM" begins many a text; the size of the second header, one of a few, does not follow there.
BMP = re.compile(rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)
# A width and a height follow, or a comment.
PNM = re.compile(rb"P[1-6f]\s+(#|\d+\s+(#|\d))")


def has_image_suffix(name: str) -> bool:
    """Whether a file's name ends as that of an image."""
    return IMAGE_SUFFIX.fullmatch(suffix(name)) is not None


def is_image(name: str, head: bytes) -> bool:
    """Whether a file is an image, from its name and its first HEAD_BYTES bytes.

    One whose name promises an image is, even where its bytes are not: it is then a broken one.
    """
    return has_image_suffix(name) or (begins_as_image(head) and not RAW_SUFFIX.fullmatch(suffix(name)))


def begins_as_image(head: bytes) -> bool:
    """Whether the first HEAD_BYTES bytes are those of an image of one of ``FORMATS``."""
    if head.startswith(SIGNATURES) or BMP.match(head) or PNM.match(head):
        return True
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    # HEIC is a box of the same kind, of other brands.
    size = int.from_bytes(head[:4], "big")
    return head[4:8] == b"ftyp" and any(brand in head[8:size] for brand in (b"avif", b"avis"))


def suffix(name: str) -> str:
    """The suffix of a file's name in lower case, or "" where there is none."""
    # PurePosixPath(name).suffix, at a fifth of its time.
    stem, _, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if stem and ending else ""
