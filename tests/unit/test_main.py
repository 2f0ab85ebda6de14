"""The command line as a process: how it ends."""

import subprocess
import sys

import pytest

CODE = """
import atexit, sys, darkroom.__main__ as program

def main():
    atexit.register(print, "last words", end="")
    print("said", end=" ")
    {ends}

program.main = main
program.run()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ends", "code", "errors"),
    [
        ("return", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('why')", 1, "why\n"),
        ("raise ValueError('a bug')", 1, "ValueError: a bug\n"),
        ("raise KeyboardInterrupt", -2, "KeyboardInterrupt\n"),
    ],
)
def test_a_process_ends_with_its_code_and_all_that_it_said(ends, code, errors):
    ended = subprocess.run([sys.executable, "-c", CODE.format(ends=ends)], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, "said last words")
    assert ended.stderr.endswith(errors)
    assert bool(ended.stderr) == bool(errors)


@pytest.mark.slow
def test_output_that_finds_no_reader_is_a_failure():
    process = subprocess.Popen([sys.executable, "-c", CODE.format(ends="return")], stdout=subprocess.PIPE)
    process.stdout.close()
    assert process.wait() != 0
