"""Out of memory is one line with the bytes wanted and there, whichever library says it, and what to lower."""

import errno
import re
from concurrent.futures.process import BrokenProcessPool
from unittest import mock

import numpy as np
import pytest
import torch
from tests.stages import run_command

from darkroom.cli.problems import explain
from darkroom.utils import memory
from darkroom.utils.memory import free_bytes, remedy, shortage, total_bytes

# More than any machine has: refused at once, without taking any.
HUGE = 1 << 50
ON_GPU = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 8 GiB, of which 1.25 GiB is free."


def raised(action):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        action()
    return caught.value


@pytest.mark.parametrize(
    ("action", "wanted"),
    [
        (lambda: np.empty(HUGE, np.uint8), r"1\.00 PiB wanted, "),
        (lambda: torch.empty(HUGE, dtype=torch.uint8), r"1048576\.0 GiB wanted, "),
        (lambda: torch.empty(1 << 62, 1 << 62), ""),
        (lambda: bytearray(1 << 62), ""),
    ],
    ids=["numpy", "torch", "beyond 64 bits", "python"],
)
def test_what_a_library_raises_is_told_in_a_line(action, wanted):
    said = shortage(raised(action))

    assert re.fullmatch(rf"not enough memory \({wanted}[\d.]+ GiB of [\d.]+ GiB free\)", said)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (torch.OutOfMemoryError(ON_GPU), r"the GPU has not enough memory \(2\.00 GiB wanted, 1\.25 GiB free\)"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "the GPU has not enough memory"),
        (RuntimeError("std::bad_alloc"), r"not enough memory \(.* free\)"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), r"not enough memory \(.* free\)"),
    ],
)
def test_what_only_some_machines_raise_is_told_in_a_line(problem, said):
    assert re.fullmatch(said, shortage(problem))


@pytest.mark.parametrize("problem", [RuntimeError("shapes differ"), ValueError("out of memory"), OSError(5, "no")])
def test_other_problems_are_not_taken_for_it(problem):
    assert shortage(problem) is None


def test_a_container_bounds_what_there_is(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "LIMITS", (str(limit), str(tmp_path / "none")))
    for written, bound in (("1048576\n", 1 << 20), ("max\n", None)):
        limit.write_text(written)
        assert (total_bytes() == 1 << 20) == (bound is not None)
        assert free_bytes() <= total_bytes()


@pytest.mark.parametrize(
    ("command", "lower"),
    [
        (["download"], "end other programs"),
        (["preprocess"], "lower preprocess.image_size"),
        (["search"], "lower train.batch_size, raise train.accumulate"),
        (["train"], "lower train.batch_size, raise train.accumulate"),
        (["evaluate"], "lower evaluate.batch_size"),
        (["register"], "end other programs"),
        (["lr-find"], "lower train.batch_size"),
        (["predict", "some.png"], "lower serve.batch_size"),
        (["serve"], "lower serve.batch_size"),
        (["results"], "end other programs"),
    ],
)
def test_a_command_without_memory_ends_in_one_line(command, lower, tmp_path):
    ended = run_command_without_memory(tmp_path, *command)

    assert ended.code == 2
    assert re.fullmatch(r"error: not enough memory \(1\.00 PiB wanted, .* free\); .*\n", ended.errors)
    assert lower in ended.errors


def run_command_without_memory(root, *command):
    """Every command begins with reading the settings."""
    with (
        mock.patch("darkroom.cli.project.load", side_effect=lambda path: np.empty(HUGE, np.uint8)),
    ):
        return run_command(root, *command)


def test_each_remedy_names_a_setting():
    from darkroom.config import Config

    known = set(Config().flat())
    for command in memory.REMEDIES:
        named = re.findall(r"\b(?:preprocess|train|evaluate|model|serve|search)\.\w+", remedy(command))
        assert named, command
        assert set(named) <= known


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
            "No usable temporary directory found in ['/tmp']; free some space there, or set TMPDIR to a directory that "
            "can be written to",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "/tmp/x"),
            "disk full ([Errno 28] No space left on device: '/tmp/x'); free some space and run the command again",
        ),
    ],
)
def test_a_full_temporary_directory_is_one_line(problem, line):
    assert explain(problem, None) == [line]


def test_a_worker_that_was_killed_is_one_line():
    (line,) = explain(BrokenProcessPool("a child process terminated abruptly"), None)
    assert re.fullmatch(
        r"a worker process was killed, perhaps because memory ran out \(without it [\d.]+ GiB is free\); .+", line
    )
