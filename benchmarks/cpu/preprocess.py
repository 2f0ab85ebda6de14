"""Time and memory of `darkroom download` and `darkroom preprocess` on a folder of images.

    python -m benchmarks.cpu.preprocess [--images 10000 60000 100000] [--archive cifar10-jpeg.tar.xz] [--rounds 3]

Conditions: each measurement is a new project with the settings of params.yaml and dataset.name folder. The images are
synthetic, JPEGs of 32x32, 16 different ones in each of 10 classes, uncompressed in a zip; or those of the archive.
Seconds are those of the whole command, start included, its files in the page cache. The processor's seconds, of all
its processes together, are what other work on the machine changes least.
Memory is the resident set, which counts the pages of mapped files too, looked at every 20 ms: the most that all of the
command's processes together have taken, less what they take that have imported the same and done nothing. Looking takes
a little of the time that is measured.
"""

import io
import json
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
from benchmarks import harness, project
from benchmarks.harness import Benchmark, Figures, Job, run
from benchmarks.stages import measure
from PIL import Image


def synthesise(count: int, path: Path) -> None:
    """Write ``count`` images into the zip ``path``."""
    generator = np.random.default_rng(0)
    contents = []
    for _ in range(160):
        stream = io.BytesIO()
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((32, 32), Image.Resampling.BILINEAR).save(stream, "JPEG", quality=90)
        contents.append(stream.getvalue())
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            archive.writestr(f"class{number % 10}/{number:07}.jpg", contents[number % 160])


def preprocess(source: Path | int) -> Job:
    """Both commands on an archive, or on so many synthetic images."""

    def job(_: Namespace) -> Figures:
        archive = source if isinstance(source, Path) else Path("synthetic.zip")
        if isinstance(source, int):
            synthesise(source, archive)
        project.write_params({"dataset.name": "folder", "dataset.path": str(archive.resolve())})
        figures = measure("download") | measure("preprocess")
        card = json.loads(Path("data/processed/folder/dataset.json").read_text(encoding="utf-8"))
        images = sum(card["sizes"].values())
        return {
            "s, preprocess": figures.pop("s, preprocess"),
            "us an image, processor": figures["s, preprocess, processor"] / images * 1e6,
            **figures,
        }

    return job


def main() -> None:
    parser = harness.arguments(__doc__, rounds=3)
    parser.add_argument("--images", type=int, nargs="*", default=[10_000, 60_000, 100_000], help="synthetic images")
    parser.add_argument("--archive", type=lambda path: Path(path).resolve(strict=True), help="a directory or archive")
    options = parser.parse_args()
    sources: dict[str, Path | int] = {f"{count:,} synthetic images": count for count in options.images}
    if options.archive:
        sources[options.archive.name] = options.archive
    jobs = {("", name): preprocess(source) for name, source in sources.items()}
    goals = [{"case": "", "name": name, "unit": "MB above imports, preprocess", "at_most": 300} for name in sources]
    goals += [
        {"case": "", "name": name, "unit": "s, preprocess", "at_most": 20}
        for name in ("60,000 synthetic images", "cifar10-jpeg.tar.xz")
        if name in sources
    ]
    run(Benchmark("Preprocessing a folder of images", jobs, {"shape": "3x32x32"}, goals=goals), options)


if __name__ == "__main__":
    main()
