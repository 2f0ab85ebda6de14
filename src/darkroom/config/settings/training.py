"""The settings of a training: `model`, `augment` and `train`."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, Strict, model_validator

from darkroom.config.settings.section import Section
from darkroom.config.types import AutoOrCount, PositiveInts, Seed

# A version's number need not be quoted.
Weights = Annotated[
    str,
    Field(min_length=1),
    BeforeValidator(
        lambda value: str(value) if type(value) is int else value,
        json_schema_input_type=int | Annotated[str, Field(min_length=1)],
    ),
]

Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(ge=0.01, le=100)]


class Model(Section):
    """The architecture. A setting left empty takes the architecture's own default."""

    name: Literal["mlp", "simple-cnn", "resnet", "wide-resnet", "fast-cnn", "pretrained"] = Field(
        "simple-cnn",
        description="mlp, simple-cnn, resnet, wide-resnet, fast-cnn or pretrained: `darkroom architectures`",
    )
    filters: PositiveInts | None = Field(
        None,
        min_length=1,
        description="simple-cnn: of each convolution, empty: [32, 64]; fast-cnn: of each group, [64, 256, 256]",
    )
    pooling: Literal["each", "between", "none"] | None = Field(
        None, description="simple-cnn: max pooling after each convolution, between them, or none; empty: each"
    )
    hidden: PositiveInts | None = Field(
        None, description="units of each dense layer; empty: simple-cnn [128], mlp [256, 128], pretrained none"
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="share of activations dropped in training; empty: 0.25 for simple-cnn, else 0"
    )
    depth: int | None = Field(
        None,
        ge=1,
        le=200,
        description="layers: resnet 9, 10, 18 or 34, wide-resnet 6n + 4, fast-cnn 8 or 11; empty: 18, 16, 8",
    )
    width: int | None = Field(None, ge=1, le=4096, description="resnet: filters of the first stage; empty: 64")
    activation: Literal["relu", "gelu"] | None = Field(None, description="fast-cnn: relu or gelu; empty: relu")
    freeze_norm_scale: bool | None = Field(
        None, description="fast-cnn: true keeps the scales of the normalization at 1; empty: false"
    )
    whitening_epochs: int | None = Field(
        None, ge=0, description="fast-cnn: epochs in which the bias of the whitening learns; empty: all"
    )
    widen_factor: int | None = Field(
        None, ge=1, le=64, description="wide-resnet: times the filters of a plain one; empty: 4"
    )
    backbone: str | None = Field(
        None,
        min_length=1,
        description="pretrained: a name that `darkroom backbones` lists; empty: resnet18",
    )
    weights_path: str | None = Field(
        None, min_length=1, description="pretrained: a local state_dict; empty: the library's cache, else its host"
    )
    input_size: int | None = Field(
        None,
        ge=32,
        le=4096,
        description="pretrained: pixels a side of what the backbone is given, fewer are faster; empty: its own",
    )
    train: Literal["head", "last-blocks", "all"] | None = Field(
        None, description="pretrained: head (on features that are computed once), last-blocks or all; empty: head"
    )
    head_init: Literal["zeros", "classes"] | None = Field(
        None,
        description="pretrained: a head begins with zeros or with the classes that the weights know; empty: zeros",
    )
    last_blocks: int | None = Field(
        None, ge=1, le=1000, description="pretrained, last-blocks: how many of them learn beside the head; empty: 3"
    )
    freeze_epochs: int | None = Field(
        None, ge=0, description="pretrained, but head: epochs in which only the new head learns; empty: 1"
    )
    layer_lr_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="pretrained, but head: a block learns at this share of the next one's rate; empty: 0.8",
    )
    freeze_norm: bool | None = Field(
        None, description="pretrained, but head: true keeps the averages of its batch normalization; empty: false"
    )

    @property
    def trains_head(self) -> bool:
        """Whether only the head of a pretrained model is trained, on features that never change."""
        return self.name == "pretrained" and self.train in (None, "head")


# Of `augment`: what changes no image by itself.
NO_CHANGES = {"views", "mixup", "cutmix"}


class Augment(Section):
    """Random changes to the training images, different for each image and epoch, made on the device."""

    flip: Literal["none", "random", "alternating"] = Field(
        "none", description="mirror left-right: none, random, or alternating between epochs; not for digits or letters"
    )
    flip_vertical: bool = Field(
        False, description="mirror top-bottom at random; for pictures without an up, such as from above"
    )
    crop_scale: Annotated[tuple[Share, Share], Strict(False)] | None = Field(
        None,
        description="[low, high] share of the area that is cut out and enlarged, such as [0.25, 1]; empty: all",
    )
    crop_ratio: Annotated[tuple[Ratio, Ratio], Strict(False)] = Field(
        (0.75, 1.333), description="[low, high] width to height of what crop_scale cuts out, in pixels"
    )
    translate: int = Field(0, ge=0, le=64, description="largest random shift, pixels")
    padding: Literal["black", "edge", "reflect"] = Field(
        "black", description="what a shift brings in: black, edge (repeated) or reflect"
    )
    rotate: float = Field(0.0, ge=0, le=180, description="largest turn either way, degrees")
    scale: float = Field(0.0, ge=0, lt=1, description="largest change of size, as a share")
    shear: float = Field(0.0, ge=0, lt=90, description="largest shear either way, degrees")
    policy: Literal["none", "trivial"] = Field(
        "none", description="trivial: one of 14 changes for each image, of a random strength (TrivialAugment)"
    )
    brightness: float = Field(0.0, ge=0, le=1, description="largest change, as a share")
    contrast: float = Field(0.0, ge=0, le=1, description="largest change, as a share")
    saturation: float = Field(0.0, ge=0, le=1, description="largest change, as a share; color images only")
    hue: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="largest turn of the color wheel either way, 0.5 is half of it; color images only",
    )
    blur: float = Field(0.0, ge=0, le=16, description="largest standard deviation of a Gaussian blur, pixels")
    cutout: int = Field(0, ge=0, le=4096, description="side of a square blanked in each image, pixels")
    erasing: float = Field(0.0, ge=0, le=1, description="probability of blanking a rectangle of random size and shape")
    views: int = Field(
        1, ge=1, le=64, description="model.train head: itself and changed copies of each image to compute features of"
    )
    mixup: float = Field(
        0.0, ge=0, le=10, description="blending pairs of images: alpha of the Beta distribution; 0 for none"
    )
    cutmix: float = Field(
        0.0, ge=0, le=10, description="pasting a part of another image: alpha of the Beta distribution; 0 for none"
    )

    @property
    def changes_images(self) -> bool:
        """Whether a single image is changed: mixing changes whole batches."""
        return self.model_dump(exclude=NO_CHANGES) != Augment().model_dump(exclude=NO_CHANGES)

    @model_validator(mode="after")
    def _changes_agree(self) -> Self:
        if self.cutout and self.erasing:
            raise ValueError("cutout and erasing contradict each other: both blank a part of each image; set one to 0")
        if self.padding != "black" and not self.translate:
            raise ValueError(f"padding: {self.padding} fills what translate brings in, and that is 0; set translate")
        return self

    @model_validator(mode="after")
    def _crops_are_intervals(self) -> Self:
        for key, interval in (("crop_scale", self.crop_scale), ("crop_ratio", self.crop_ratio)):
            if interval and interval[0] > interval[1]:
                raise ValueError(f"{key}: expected [low, high] with low not above high, got {list(interval)}")
        if self.crop_ratio != type(self).model_fields["crop_ratio"].default and not self.crop_scale:
            raise ValueError(
                f"crop_ratio: {list(self.crop_ratio)} is the shape of what crop_scale cuts out, and that is empty; "
                "set crop_scale"
            )
        return self


class Train(Section):
    """One training run."""

    start_from: Weights | None = Field(
        None, description="weights to begin with: champion, a version, or a file; empty: new ones"
    )
    epochs: int = Field(20, ge=1, le=10_000, description="passes over the train split")
    batch_size: int = Field(64, ge=1, le=65_536, description="images a step, on all devices together")
    drop_last: bool = Field(False, description="leave out the last batch of an epoch where it is smaller")
    accumulate: int = Field(
        1, ge=1, le=1024, description="parts in which a batch goes through the model, for less memory"
    )
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = Field(
        "adamw", description="adam, adamw, sgd, or muon for matrices with adamw for the rest"
    )
    lr: float = Field(1e-3, gt=0, le=100, description="peak learning rate")
    bias_lr: float | None = Field(None, gt=0, le=100, description="of biases; empty: as lr")
    head_lr: float | None = Field(None, gt=0, le=100, description="of the layer that gives the logits; empty: as lr")
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd and muon only (Nesterov)")
    muon_iterations: int = Field(5, ge=1, le=20, description="muon only: iterations of Newton and Schulz in each step")
    weight_decay: float = Field(0.01, ge=0, le=10, description="decoupled for adamw and muon, L2 for adam and sgd")
    schedule: Literal["constant", "cosine", "linear", "one-cycle"] = Field(
        "cosine", description="constant, cosine or linear (to zero), or one-cycle"
    )
    warmup_epochs: int = Field(0, ge=0, description="linear warm-up before constant or cosine")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient; empty: no clipping")
    ema: float | None = Field(
        None, gt=0, lt=1, description="moving average of the weights, its decay a step, such as 0.999; empty: none"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="none, or balanced: rare classes count more in the loss"
    )
    sampler: Literal["shuffle", "balanced"] = Field(
        "shuffle", description="shuffle, or balanced: every class equally often, with replacement"
    )
    monitor: Literal["accuracy", "loss"] = Field(
        "accuracy", description="validation metric (accuracy or loss) that chooses the best epoch and the best trial"
    )
    patience: int | None = Field(
        None, ge=1, description="epochs without improvement before stopping; empty: train them all"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto (a GPU if there is one), cpu, cuda or mps"
    )
    devices: AutoOrCount = Field(
        1, description="GPUs, or processes on the CPU, that train one model together: auto (all GPUs) or how many"
    )
    executor: Literal["local", "ray"] = Field(
        "local", description="where the devices are: local (this machine), or ray for a cluster"
    )
    ray_address: str | None = Field(
        None, min_length=1, description="ray only: the cluster's address; empty: a cluster on this machine"
    )
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "auto", description="auto (what is fastest here), fp32, bf16, or on a GPU tf32 or fp16"
    )
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = Field(
        "none", description="torch.compile's mode, for GPUs: none, default, reduce-overhead or max-autotune"
    )
    deterministic: bool = Field(
        False, description="on a GPU: the same bits in every run, slower; a CPU gives them anyway"
    )
    seed: Seed = Field(0, description="of the weights, the order of images, dropout and augmentation")

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs:
            raise ValueError(f"warmup_epochs: must be below epochs ({self.epochs}), got {self.warmup_epochs}")
        if self.warmup_epochs and self.schedule == "one-cycle":
            raise ValueError("warmup_epochs: one-cycle warms up by itself; set it to 0 or choose cosine")
        return self

    @model_validator(mode="after")
    def _balance_is_made_once(self) -> Self:
        if self.class_weights == self.sampler == "balanced":
            raise ValueError("class_weights and sampler both balance the classes; keep one of them")
        return self
