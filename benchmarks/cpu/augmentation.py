"""Changes drawn for each image: on the whole batch, beside torchvision's transforms on one image after the other.

    python -m benchmarks.cpu.augmentation [--images 1280] [--rounds 3]

Conditions: made images of 3x64x64 in memory, in batches of 128, --images of them after two batches that warm everything
up. Both ways take and give bytes and draw the same amounts; torchvision's have no data loader around them, and freed
memory is kept, as in a training. Images a second are those of one thread in its processor's time, which other work on
the machine changes least.
"""

import time
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks import harness
from benchmarks.harness import Benchmark, Figures, Job, run

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 128
SIDE = 64
CASES: dict[str, dict[str, Any]] = {
    "mirrored top-bottom": {"flip_vertical": True},
    "cropped and enlarged": {"crop_scale": (0.25, 1.0)},
    "turned": {"rotate": 10.0},
    "saturation": {"saturation": 0.4},
    "hue": {"hue": 0.1},
    "blurred": {"blur": 1.0},
    "TrivialAugment": {"policy": "trivial"},
}
CASES["mirrored, cropped, in other colors"] = {
    "flip": "random", "crop_scale": (0.25, 1.0), "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1,
}  # fmt: skip


def on_the_batch(settings: dict[str, Any]) -> "Callable[[Tensor], Tensor]":
    import torch

    from darkroom.config.settings import Augment
    from darkroom.data.augmentation import augment

    chosen, generator = Augment(**settings), torch.Generator().manual_seed(0)
    return lambda images: augment(images, chosen, generator)


def image_by_image(settings: dict[str, Any]) -> "Callable[[Tensor], Tensor]":
    import torch
    from torchvision.transforms import v2

    steps: list[Any] = []
    if "flip" in settings:
        steps.append(v2.RandomHorizontalFlip())
    if "flip_vertical" in settings:
        steps.append(v2.RandomVerticalFlip())
    if "crop_scale" in settings:
        steps.append(v2.RandomResizedCrop(SIDE, scale=settings["crop_scale"], ratio=(0.75, 1.333)))
    if "rotate" in settings:
        steps.append(v2.RandomRotation(settings["rotate"], v2.InterpolationMode.BILINEAR))
    colors = {key: settings[key] for key in ("brightness", "contrast", "saturation", "hue") if key in settings}
    if colors:
        steps.append(v2.ColorJitter(**colors))
    if "policy" in settings:
        steps.append(v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR))
    if "blur" in settings:
        # The same reach; torchvision refuses a sigma of zero.
        steps.append(v2.GaussianBlur(7, (0.001, settings["blur"])))
    change = v2.Compose(steps)
    return lambda images: torch.stack([change(image) for image in images])


WAYS = {"on the batch": on_the_batch, "torchvision, image by image": image_by_image}


def changed(settings: dict[str, Any], way: str) -> Job:
    def job(options: Namespace) -> Figures:
        import torch

        from darkroom.utils.allocator import keep_freed_memory

        keep_freed_memory()
        torch.set_num_threads(1)
        images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8)
        change, batches = WAYS[way](settings), options.images // BATCH
        for _ in range(2):
            change(images)
        start = time.process_time()
        for _ in range(batches):
            change(images)
        return {"images/s": batches * BATCH / (time.process_time() - start)}

    return job


def main() -> None:
    parser = harness.arguments(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=1280, help="images to change")
    options = parser.parse_args()
    jobs = {(case, way): changed(settings, way) for case, settings in CASES.items() for way in WAYS}
    shape = f"3x{SIDE}x{SIDE}"
    conditions = {"images": options.images, "batch": BATCH, "shape": shape, "time": "of the processor, in one thread"}
    title = "Changes drawn for each image"
    run(Benchmark(title, jobs, conditions, baselines=["torchvision, image by image"]), options)


if __name__ == "__main__":
    main()
