"""The tests that take their device from the environment, on the device of the session."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from benchmarks.gpu.measurements.session import Session
from benchmarks.machine import ROOT

CASE = "Tests on the device"
SECONDS = 120
# Without what this project asks pytest for: its plugins may not be there, and warnings of a GPU are no failures.
OPTIONS = (
    "-q", "--import-mode=importlib", "--override-ini=addopts=", "--override-ini=filterwarnings=default", "-p",
    "no:cacheprovider",
)  # fmt: skip


def tests(session: Session) -> None:
    """Passed and failed; which ones failed, and why, is with what could not be measured."""
    found = session.place / "tests.xml"
    chosen = ["-k", "mlp and plain"] if session.small else []
    command = [sys.executable, "-m", "pytest", *OPTIONS, f"--junitxml={found}", *chosen, "tests/device"]
    environment = os.environ | {"DARKROOM_TEST_DEVICE": session.device.type}
    limit = min(SECONDS, session.left)
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit)
    if not found.exists():
        raise RuntimeError(f"pytest ended with {ended.returncode}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    cases = list(ElementTree.parse(found).iter("testcase"))  # noqa: S314 - pytest wrote it just now
    failures = [(case, problem) for case in cases for problem in case if problem.tag in ("failure", "error")]
    skipped = sum(any(child.tag == "skipped" for child in case) for case in cases)
    passed = len(cases) - len({id(case) for case, _ in failures}) - skipped
    session.results.add(CASE, "tests", {"passed": passed, "failed": len(failures), "skipped": skipped})
    for case, problem in failures:
        session.results.miss(CASE, str(case.get("name")), str(problem.get("message"))[:300], problem.text or "")
