"""The allocator keeps freed memory, where the C library is glibc."""

import ctypes
import platform
import subprocess
import sys

import pytest

from darkroom.utils.allocator import keep_freed_memory

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep freed memory")

# Above 32 MiB glibc maps every block anew, and the system zeroes its pages as they are touched.
FAULTS = """
import resource, sys, torch
from darkroom.utils.allocator import keep_freed_memory
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
@pytest.mark.slow
def test_large_blocks_are_used_again_instead_of_mapped_anew():
    assert faults_a_round("kept") < 0.1 * faults_a_round("default")


def test_another_c_library_is_left_as_it_is(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())

    assert not keep_freed_memory()


def test_a_refusal_of_the_c_library_is_told(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: _Refusing())

    assert not keep_freed_memory()


class _Refusing:
    def mallopt(self, parameter, value):
        return 0
