"""The settings of the images: `dataset`, `preprocess` and `data`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, Strict, field_validator, model_validator

from darkroom.config.addresses import WEB, check_address, is_address
from darkroom.config.settings.section import Section
from darkroom.config.types import Channels, Number, Seed
from darkroom.errors import did_you_mean, quoted

# Of Python's, those that zips of older systems are likely to be in; all others are taken too.
ENCODINGS = (
    "utf-8",
    "gbk",
    "gb18030",
    "shift_jis",
    "cp932",
    "big5",
    "euc_kr",
    "euc_jp",
    "cp437",
    "cp850",
    "cp866",
    "cp1252",
)


class Dataset(Section):
    """What to classify, and where its files come from."""

    name: Literal["digits", "mnist", "fashion-mnist", "kmnist", "cifar10", "cifar100", "folder"] = Field(
        "digits", description="digits, mnist, fashion-mnist, kmnist, cifar10, cifar100, or folder for your own images"
    )
    path: str = Field(
        "data/folder",
        min_length=1,
        description="folder only: a directory, a zip or tar archive or s3://bucket/…, one sub-folder per class",
    )
    labels: str | None = Field(
        None,
        min_length=1,
        description="folder only: a table, .csv or .parquet, of files and labels; empty: from the folders",
    )
    encoding: str | None = Field(
        None,
        min_length=1,
        description="of names in a zip that does not say it, such as gbk or shift_jis; empty: refuse such names",
    )
    mirror: str | None = Field(
        None, description="directory or URL tried before the public hosts (else DARKROOM_MIRROR); holds <name>/<file>"
    )
    on_broken: Literal["stop", "skip"] = Field(
        "stop", description="images that cannot be decoded: stop and name them, or skip and list them in the report"
    )
    on_leak: Literal["report", "drop-train", "stop"] = Field(
        "report", description="train images whose picture is in val or test too: report, drop-train (them), or stop"
    )

    @property
    def recorded(self) -> dict[str, str]:
        """What the images depend on, but for where they are: a value of on_leak that drops none is left out."""
        dropped = {"on_leak": self.on_leak} if self.on_leak == "drop-train" else {}
        return {"name": self.name, "on_broken": self.on_broken, **dropped}

    @field_validator("path", "labels")
    @classmethod
    def _home_is_of_a_user(cls, path: str | None) -> str | None:
        try:
            Path(path or "").expanduser()
        except RuntimeError:
            raise ValueError(f"{quoted(path)} begins with ~, but is the home of no user; rename it") from None
        return path

    @field_validator("path")
    @classmethod
    def _path_holds_no_secret(cls, path: str) -> str:
        if is_address(path):
            check_address(path)
        return path

    @field_validator("mirror")
    @classmethod
    def _mirror_holds_no_secret(cls, mirror: str | None) -> str | None:
        if mirror and is_address(mirror) and not mirror.lower().startswith("file://"):
            check_address(mirror, WEB)
        return mirror

    @field_validator("encoding")
    @classmethod
    def _encoding_is_a_codec(cls, name: str | None) -> str | None:
        try:
            # Names hold slashes and digits, which a few codecs keep for other letters.
            known = name is None or b"/0a".decode(name) == "/0a"
        except (LookupError, UnicodeError, ValueError):  # ValueError for a zero in it
            known = False
        if not known:
            raise ValueError(f"no encoding of names {quoted(name)}; {did_you_mean(str(name), ENCODINGS)}")
        return name


class Preprocess(Section):
    """How images become tensors of one size, and how they are split."""

    image_size: Annotated[tuple[int, int], Strict(False)] | None = Field(
        None, description="[height, width] in pixels; empty: as published, or a folder's common size, else [64, 64]"
    )
    channels: Channels | None = Field(None, description="1 gray, 3 color; empty: as the images are")
    fit: Literal["pad", "crop", "stretch"] = Field(
        "pad", description="to one shape: pad (bars in the color of its border), crop (the sides) or stretch"
    )
    value_range: Annotated[tuple[Number, Number], Strict(False)] | None = Field(
        None, description="[low, high] shown as black and white, for more than 8 bits; empty: as the train split's"
    )
    bands: Annotated[tuple[Annotated[int, Field(ge=0, le=1023)], ...], Strict(False)] | None = Field(
        None, description="which bands of images of more than three, such as [0, 1, 2]; empty: refuse those"
    )
    on_suspect: Literal["stop", "warn"] = Field(
        "stop", description="images that nothing can be learned from: stop, or warn and continue"
    )
    audit: Literal["auto", "full", "off"] = Field(
        "auto",
        description="near-duplicates and flawed images: auto (look in a folder), full (in any dataset) or off",
    )
    executor: Literal["local", "ray"] = Field(
        "local", description="folder only: where images are decoded: local (all cores), or ray for a cluster"
    )
    ray_address: str | None = Field(
        None, min_length=1, description="ray only: the cluster's address; empty: a cluster on this machine"
    )
    val_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of the train split to choose by; the test split is never used for that"
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="share for testing, only where the dataset has no test split of its own"
    )
    seed: Seed = Field(0, description="of the split")
    shard_mb: int = Field(
        1024, ge=1, le=1024, description="MiB of a file of preprocessed images, at most; a larger split has several"
    )

    @model_validator(mode="after")
    def _sizes_are_sane(self) -> Self:
        if self.image_size and not all(1 <= side <= 4096 for side in self.image_size):
            raise ValueError(f"image_size: each side must be 1 to 4096 pixels, got {list(self.image_size)}")
        return self

    @model_validator(mode="after")
    def _range_is_an_interval(self) -> Self:
        if self.value_range and self.value_range[0] >= self.value_range[1]:
            low, high = self.value_range
            raise ValueError(f"value_range: expected [low, high] with low below high, got [{low:g}, {high:g}]")
        return self

    @model_validator(mode="after")
    def _bands_make_a_picture(self) -> Self:
        if self.bands is not None and len(self.bands) not in (1, 3):
            raise ValueError(f"bands: expected one band for gray or three for red, green, blue, got {list(self.bands)}")
        if self.bands and self.channels and len(self.bands) > self.channels:
            raise ValueError(f"bands: {list(self.bands)} make a color picture, but channels is 1; set it to 3")
        return self


class Data(Section):
    """Where the preprocessed images are while a model is trained."""

    local_cache_gb: float | None = Field(
        None,
        gt=0,
        description="GB on this disk for files of images that only the DVC remote has; empty: all have to be here",
    )
