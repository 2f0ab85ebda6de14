"""The day on a GPU measures what there is time for, keeps every value, and works as a whole, in small, on a CPU."""

import gzip
import io
import json
import lzma
import re
import struct
import subprocess
import sys
import tarfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import gpu_cargo
from benchmarks.gpu import day
from benchmarks.gpu.measurements import speedruns, steps
from benchmarks.gpu.measurements.data import CIFAR10, IDX
from benchmarks.gpu.measurements.session import Measurement, Results, Session, take
from benchmarks.harness import NotHere
from benchmarks.machine import ROOT
from PIL import Image

CPU = torch.device("cpu")
COUNTS = {"train": 600, "test": 20}
TREE_BYTES = 5000
# Ways in goals that need a GPU, another program, or more than a session in small measures.
NOT_ON_A_CPU = {"airbench94_muon.py", "captured", "fused, K = 16"}


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MNIST, Fashion-MNIST and the JPEG files of CIFAR-10, with few images, made up."""
    root = tmp_path_factory.mktemp("mirror")
    generator = np.random.default_rng(0)
    for dataset in ("mnist", "fashion-mnist"):
        (root / dataset).mkdir()
        for (split, kind), name in IDX.items():
            count = COUNTS[split]
            shape = (count, 28, 28) if kind == "images" else (count,)
            values = generator.integers(0, 256, shape) if kind == "images" else np.arange(count) % 10
            header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
            (root / dataset / f"{name}.gz").write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))
    with tarfile.open(root / CIFAR10, "w:xz") as archive:
        for split, count in (("train", 55), ("test", 2)):
            for label in range(10):
                for number in range(count):
                    content = io.BytesIO()
                    Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(content, "JPEG")
                    info = tarfile.TarInfo(f"{split}/class {label}/{number:04}.jpg")
                    info.size = content.tell()
                    content.seek(0)
                    archive.addfile(info, content)
    return root


@pytest.fixture
def session(tmp_path: Path) -> Session:
    results = Results(tmp_path / "day.json", "A day", {"gpu": "none"}, ())
    return Session(tmp_path, tmp_path / "place", CPU, results, time.monotonic() + 100)


def written(session: Session) -> dict[str, Any]:
    return json.loads(session.results.path.read_text())


# --- time and values ---------------------------------------------------------------------------------


def test_every_value_is_in_the_file_at_once(session: Session) -> None:
    session.results.add("MNIST", "mnist-99", {"s": 2.0})
    assert written(session)["results"][0]["values"] == [2.0]
    session.results.add("MNIST", "mnist-99", {"s": 4.0})

    (found,) = written(session)["results"]
    assert (found["n"], found["median"], found["unit"], found["name"]) == (2, 3.0, "s", "mnist-99")


def test_what_fails_is_kept_with_its_traceback_and_the_others_run(session: Session) -> None:
    def fails(given: Session) -> None:
        given.results.add("", "before", {"s": 1.0})
        raise ValueError("broken")

    def not_here(given: Session) -> None:
        raise NotHere("no such device")

    after = Measurement("after", 1, lambda given: given.results.add("", "after", {"s": 2.0}))
    take(session, [Measurement("fails", 1, fails), Measurement("absent", 1, not_here), after])

    document = written(session)
    assert [each["name"] for each in document["results"]] == ["before", "after"]
    failed, absent = document["not_measured"]
    assert (failed["name"], failed["failed"]) == ("fails", True)
    assert "in fails" in failed["traceback"]
    assert absent == {"case": "", "name": "absent", "reason": "no such device", "failed": False}
    assert session.results.has_failures


def test_what_would_take_longer_than_there_is_left_out(session: Session) -> None:
    take(session, [Measurement("long", 1000, lambda given: given.results.add("", "long", {"s": 1.0}))])

    (absent,) = written(session)["not_measured"]
    assert absent["reason"].startswith("needs 1000 s, ")
    assert written(session)["results"] == []


def test_rounds_end_where_another_would_not_fit(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    session.deadline = 10.0
    rounds = []
    for number in session.repeats(100):
        clock[0] += 3.0
        rounds.append(number)

    assert rounds == [0, 1, 2]  # a fourth might take 3.6 s, and 1 is left


def test_the_union_of_ranges_is_what_a_device_was_busy() -> None:
    assert steps._covered([(0, 2), (1, 3), (5, 6), (5.5, 5.75)]) == 4


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (
            "|          |   eval  |     0.9506  |   0.9385  |       0.9402  |        2.5897  |\n",
            (0.9385, 0.9402, 2.5897),
        ),
        ("|       3  |      7  |     0.9506  |   0.9385  |               |     2.4301  |\n", None),
        ("----------\n", None),
    ],
)
def test_airbench_tells_the_end_of_a_training_in_one_row(line: str, row: tuple[float, ...] | None) -> None:
    assert speedruns.final_row(line) == row


# --- the whole, in small -----------------------------------------------------------------------------


@pytest.mark.slow
def test_all_of_it_works_on_a_cpu(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day, "PLACE", tmp_path / "place")
    # A step of cifar10-best takes seconds on a CPU, and is one of cifar10-fast's, deeper.
    chosen = [each.name for each in day.MEASUREMENTS if each.name != "cifar10-best"]
    given = ["--data", str(mirror), "--device", "cpu", "--small", "--results", str(tmp_path), "--only", *chosen]
    monkeypatch.setattr(sys, "argv", ["day", *given])
    day.main()

    document = json.loads((tmp_path / "day.json").read_text())
    assert not [each for each in document["not_measured"] if each["failed"]], document["not_measured"]
    ways = {(each["case"], each["name"]) for each in document["results"]}
    assert {("MNIST", "mnist-99"), ("CIFAR-10", "cifar10-fast"), ("Fashion-MNIST", "fashion-mnist-94")} <= ways
    assert {("Trials, fast-cnn", "fused, K = 4"), ("Epoch of the CNN, batch 64", "fit")} <= ways
    assert ("Step of cifar10-fast", "bf16, compile none") in ways
    figures = {(each["case"], each["name"], each["unit"]) for each in document["results"]}
    for goal in document["goals"]:
        for way in goal.get("ratio") or [goal["name"]]:
            named = {unit for case, name, unit in figures if (case, name) == (goal["case"], way)}
            assert way in NOT_ON_A_CPU or goal.get("unit") in named or ("unit" not in goal and named), goal
    tests = {each["unit"]: each["values"] for each in document["results"] if each["name"] == "tests"}
    assert tests["failed"] == [0]
    assert tests["passed"][0] > 0
    train = torch.load(tmp_path / "place" / "airbench" / "cifar10" / "train.pt")
    assert (train["images"].shape, train["images"].dtype) == ((550, 32, 32, 3), torch.uint8)
    # In an order of its own, or its first images were all of one class.
    assert train["labels"][:50].unique().numel() == 10


def test_without_a_gpu_it_says_so(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["day", "--data", str(mirror)])
    with pytest.raises(SystemExit, match=r"^error: there is no CUDA GPU on this machine; --device cpu --small shows"):
        day.main()


# --- what travels ------------------------------------------------------------------------------------


def test_images_travel_smaller_and_whole(mirror: Path, tmp_path: Path) -> None:
    gpu_cargo.pack_images(mirror, tmp_path)

    for dataset in ("mnist", "fashion-mnist"):
        for name in IDX.values():
            packed = lzma.decompress((tmp_path / dataset / f"{name}.xz").read_bytes())
            assert packed == gzip.decompress((mirror / dataset / f"{name}.gz").read_bytes())
    assert (tmp_path / CIFAR10).read_bytes() == (mirror / CIFAR10).read_bytes()


def test_wheels_are_of_the_versions_that_are_locked() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    found = gpu_cargo.pinned(gpu_cargo.WHEELS, lock)

    assert [each.partition("==")[0] for each in found] == list(gpu_cargo.WHEELS)
    with pytest.raises(ValueError, match=r"^requirements\.lock: lacks annotated-types, "):
        gpu_cargo.pinned(gpu_cargo.WHEELS, "pooch==1.0")


def test_the_whole_pipeline_takes_along_all_that_it_imports() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    found = gpu_cargo.needed(gpu_cargo.PIPELINE)

    assert len(gpu_cargo.pinned(found, lock)) == len(found)
    assert {"mlflow", "sqlalchemy", "alembic", "optuna", *gpu_cargo.WHEELS} <= set(found)
    assert not set(found) & {"torch", "numpy", "waitress"}


def test_a_mirror_that_lacks_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*given: object, **named: object) -> Namespace:
        raise AssertionError("nothing is fetched")

    monkeypatch.setattr(subprocess, "run", refused)
    monkeypatch.setattr(sys, "argv", ["gpu_cargo", "--data", str(tmp_path), "--cargo", str(tmp_path / "cargo")])
    with pytest.raises(SystemExit) as ended:
        gpu_cargo.main()

    assert ended.value.code == 2
    absent = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    assert not (tmp_path / "cargo").exists()
    assert capsys.readouterr().out.startswith(f"error: {absent}: not found; ")


def pack(monkeypatch: pytest.MonkeyPatch, mirror: Path, cargo: Path, *options: str) -> None:
    """Pack with one wheel of 1,000 bytes in place of those of a package index, beside a tree of TREE_BYTES."""
    monkeypatch.setattr(gpu_cargo, "fetch_wheels", lambda names, packed: (packed / "new.whl").write_bytes(bytes(1000)))
    monkeypatch.setattr(gpu_cargo, "tree_bytes", lambda: TREE_BYTES)
    monkeypatch.setattr(sys, "argv", ["gpu_cargo", "--data", str(mirror), "--cargo", str(cargo), *options])
    gpu_cargo.main()


@pytest.mark.parametrize(("options", "name"), [((), "cargo"), (("--pipeline",), "cargo-pipeline")])
def test_old_wheels_do_not_travel(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], name: str
) -> None:
    cargo = tmp_path / name
    cargo.mkdir()
    (cargo / "old.whl").touch()
    pack(monkeypatch, mirror, tmp_path / "cargo", *options)

    assert [path.name for path in cargo.glob("*.whl")] == ["new.whl"]
    assert (cargo / "mnist").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_more_than_can_be_sent_is_refused(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cargo = tmp_path / "cargo"
    pack(monkeypatch, mirror, cargo)
    packed = sum(path.stat().st_size for path in cargo.rglob("*") if path.is_file())
    monkeypatch.setattr(gpu_cargo, "LIMIT", packed + TREE_BYTES)
    pack(monkeypatch, mirror, tmp_path / "just fits")
    capsys.readouterr()

    monkeypatch.setattr(gpu_cargo, "LIMIT", packed + TREE_BYTES - 1)
    with pytest.raises(SystemExit) as ended:
        pack(monkeypatch, mirror, tmp_path / "other")

    assert ended.value.code == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"error: {tmp_path / 'other'}: not written: {packed / (1 << 20):.1f} MiB, and with ")
    assert "(the largest file is " in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cargo", "just fits"]


def test_the_working_tree_counts_without_what_git_ignores() -> None:
    sources = sum(path.stat().st_size for path in (ROOT / "src").rglob("*.py"))

    assert sources < gpu_cargo.tree_bytes() < 20 * gpu_cargo.MEBIBYTE


def test_the_page_on_gpus_gives_the_commands_for_that_machine() -> None:
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8").splitlines()
    commands = re.findall(r"^    ((?:python3|export) .+)$", gpu_cargo.__doc__ or "", re.MULTILINE)

    assert commands[0].startswith("python3 -m pip install --no-index ")
    assert set(commands) <= set(page)
