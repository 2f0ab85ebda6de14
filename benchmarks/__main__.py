"""Runs the benchmarks of a group one after another, then writes docs/performance.md: `make bench BENCH=cpu`.

    python -m benchmarks cpu|gpu|serve|search|photos|audit|scale [options of its scripts]

A benchmark is any script in the group's directory. One that fails does not keep the others from running.
"""

import argparse
import subprocess
import sys

from benchmarks import performance
from benchmarks.machine import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=performance.GROUPS)
    options, rest = parser.parse_known_args()
    group = options.group
    scripts = performance.scripts(group)
    failed = [
        script.stem
        for script in scripts
        if subprocess.run([sys.executable, "-m", f"benchmarks.{group}.{script.stem}", *rest], cwd=ROOT).returncode
    ]
    performance.main()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
