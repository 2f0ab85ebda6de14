"""How the cost of an image grows with their number: `download`, `preprocess`, and an epoch of `train`.

    python -m benchmarks.scale.growth [--images 10000 100000 1000000] [--rounds 1]

Conditions: each measurement is a new project with the settings of params.yaml, dataset.name folder, and no search for
near-duplicates, which is left out of more than 100,000 images by default. The images are made: different JPEGs of 64x64
in 10 classes, uncompressed in a zip. The training is one epoch of an MLP with a layer of 64 in batches of 512: most of
what it costs is the way of the images to it. Microseconds are those of the whole command, start included, by the number
of images. A million needs 30 GB of disk.
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

STAGES = ("download", "preprocess", "train")


def synthesise(count: int, path: Path) -> None:
    """Write ``count`` different images into the zip ``path``."""
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            stream = io.BytesIO()
            coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((64, 64), Image.Resampling.BILINEAR).save(stream, "JPEG", quality=85)
            archive.writestr(f"class{number % 10}/{number:07}.jpg", stream.getvalue())


def pipeline(count: int) -> Job:
    """The stages on so many images."""

    def job(_: Namespace) -> Figures:
        synthesise(count, Path("made.zip"))
        project.write_params(
            {
                "dataset.name": "folder",
                "dataset.path": str(Path("made.zip").resolve()),
                "preprocess.audit": "off",
                "model.name": "mlp",
                "model.hidden": [64],
                "train.epochs": 1,
                "train.batch_size": 512,
                "train.device": "cpu",
                "train.precision": "fp32",
                "search.trials": 0,
            }
        )
        figures: dict[str, float] = {}
        for stage in STAGES:
            if stage == "train":
                project.darkroom("search")
            found = measure(stage)
            figures |= {
                f"{stage}: µs an image": found[f"s, {stage}"] / count * 1e6,
                f"{stage}: µs an image, processor": found[f"s, {stage}, processor"] / count * 1e6,
                f"{stage}: MB above imports": found[f"MB above imports, {stage}"],
            }
        return figures

    return job


def divide(path: Path) -> None:
    """Make each stage a case of the document in ``path``: a project is measured as a whole, and read stage by stage."""
    document = json.loads(path.read_text(encoding="utf-8"))
    for result in document["results"]:
        result["case"], result["unit"] = result["unit"].split(": ")
    document["results"].sort(key=lambda result: STAGES.index(result["case"]))
    harness.write(document, path)


def main() -> None:
    parser = harness.arguments(__doc__, rounds=1)
    parser.add_argument("--images", type=int, nargs="*", default=[10_000, 100_000, 1_000_000], help="how many")
    options = parser.parse_args()
    jobs = {("", f"{count:,} images"): pipeline(count) for count in options.images}
    goals = [{"case": "preprocess", "name": name, "unit": "MB above imports", "at_most": 500} for _, name in jobs]
    run(Benchmark("Growth with the number of images", jobs, {"shape": "3x64x64", "epochs": 1}, goals=goals), options)
    if not options.job:
        divide(options.results / "growth.json")


if __name__ == "__main__":
    main()
