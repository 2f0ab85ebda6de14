"""Runs a search in a process of its own (forking.py), and kills some of its workers on the way.

Writes a line with each epoch, and at the end what has become of the trials, as JSON.
"""

import json
import sys
from pathlib import Path

import psutil

from darkroom.config import parse
from darkroom.data.cache import DatasetCard
from darkroom.errors import DarkroomError
from darkroom.search.attributes import INTERRUPTED
from darkroom.search.executors import open_slots
from darkroom.search.heartbeat import heartbeats
from darkroom.search.scheduler import TrialScheduler
from darkroom.search.storage import open_storage
from darkroom.search.study import open_study, used_trials
from darkroom.search.trials import StudyTrials
from darkroom.utils import signals


class Killer:
    """Kills a worker with each third epoch, ``deaths`` of them."""

    def __init__(self, deaths):
        self.deaths = deaths
        self.epochs = 0

    def trial_started(self, trial, settings):
        pass

    def epoch_ended(self, trial, metrics):
        sys.stdout.write("epoch\n")
        sys.stdout.flush()
        self.epochs += 1
        if self.deaths and self.epochs % 3 == 0:
            self.deaths -= 1
            worker_processes()[-1].kill()

    def trial_ended(self, trial):
        pass


def worker_processes():
    """Those of this process's descendants that train."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if any("spawn_main" in part or part.startswith("ray::WorkerActor") for part in child.cmdline())
    ]


def main():
    signals.install()
    directory, journal, settings, workers, deaths = sys.argv[1:]
    config = parse(json.loads(settings), where="")
    study = open_study(open_storage(config, Path(journal)), config, DatasetCard.read(Path(directory)))
    with heartbeats(study), open_slots(config, Path(directory), int(workers), 1) as slots:
        TrialScheduler(StudyTrials(study, config), config, slots, Killer(int(deaths)), config.train.epochs).run()
    used, interrupted = used_trials(study), study.user_attrs.get(INTERRUPTED, [])
    found = {
        "states": [trial.state.name for trial in used],
        "epochs": [len(trial.intermediate_values) for trial in used],
        "params": [trial.params for trial in used],
        "interrupted": [[trial.state.name, trial.params] for trial in study.trials if trial.number in interrupted],
        "running": sum(trial.state.name == "RUNNING" for trial in study.trials),
        "imported": [name for name in ("mlflow", "ray") if name in sys.modules],
    }
    sys.stdout.write(json.dumps(found) + "\n")


def run():
    try:
        main()
    except DarkroomError as problem:
        sys.exit(str(problem))
