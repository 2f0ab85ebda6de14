"""How long a person waits until a stage begins its work.

    python -m benchmarks.cpu.start_up [--rounds 5]

Conditions: seconds of a whole Python process that runs `darkroom <stage>` on the default params.yaml with the stage's
own work left out: the start of Python, the command line, the settings, and the libraries that the stage imports.
Files are in the page cache from the second round on.
"""

import subprocess
import sys
import time
from argparse import Namespace

from benchmarks import harness, project
from benchmarks.harness import Benchmark, Figures, Job, run

STAGES = ("download", "preprocess", "search", "train", "evaluate")
# After the import of the stage its work is left out.
WITHOUT_WORK = """
import sys
from darkroom.cli.main import main
from darkroom.stages import {stage}
{stage}.run = lambda *_: None
sys.argv = ["darkroom", "{stage}"]
main()
"""


def start(stage: str) -> Job:
    def job(_: Namespace) -> Figures:
        project.write_params({})
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", WITHOUT_WORK.format(stage=stage)], check=True)
        return {"s": time.perf_counter() - begin}

    return job


def main() -> None:
    options = harness.arguments(__doc__, rounds=5).parse_args()
    jobs = {("", f"darkroom {stage}"): start(stage) for stage in STAGES}
    goals = [{"case": "", "name": way, "unit": "s", "at_most": 3} for _, way in jobs]
    run(Benchmark(title="Seconds until a stage begins its work", jobs=jobs, conditions={}, goals=goals), options)


if __name__ == "__main__":
    main()
