"""The allocator keeps freed memory, where the C library is glibc."""

import ctypes
import platform
import subprocess
import sys

import pytest
import torch

from darkroom.data.batches import Split
from darkroom.settings import Augment, Train
from darkroom.training import allocator, fit
from darkroom.training.allocator import keep_freed_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep freed memory")

# Above 32 MiB glibc maps every block anew, and the system zeroes its pages as they are touched.
FAULTS = """
import resource, sys, torch
from darkroom.training.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()

def rounds(count):
    for _ in range(count):
        torch.ones(64 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

warm = rounds(20)
print((rounds(10) - warm) / 10)
"""


def faults_a_round(way: str) -> float:
    done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, check=True)
    return float(done.stdout)


@glibc
def test_large_blocks_are_used_again_instead_of_mapped_anew():
    assert faults_a_round("kept") < 0.1 * faults_a_round("default")


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())

    assert not keep_freed_memory()


def test_training_on_the_cpu_keeps_freed_memory(monkeypatch):
    calls = []
    monkeypatch.setattr(fit, "keep_freed_memory", lambda: calls.append("kept"))
    split = Split(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    model = torch.nn.Sequential(torch.nn.Flatten(), _AsFloat(), torch.nn.Linear(64, 2))
    fit.fit(model, split, split, Train(epochs=1, device="cpu"), Augment())

    assert calls == ["kept"]


def test_a_refusal_of_the_c_library_is_told(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: _Refusing())

    assert not allocator.keep_freed_memory()


class _Refusing:
    def mallopt(self, parameter, value):
        return 0


class _AsFloat(torch.nn.Module):
    def forward(self, images):
        return images.float()
