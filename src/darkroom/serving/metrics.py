"""The server's metrics for Prometheus: requests, latency, predictions, versions, drift."""

import collections
import math
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from darkroom.evaluation.metrics import Ints

# Seconds: from a small network's answer to what no client waits for.
LATENCY_BUCKETS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ServerMetrics:
    """The counters of one server, apart from those of any other in the process.

    The processes of a server ``share`` a directory, which `PROMETHEUS_MULTIPROC_DIR` named when prometheus_client was
    imported; then what is told is of all of them, and what was counted by a process that has ended is kept.
    """

    def __init__(self, shared: Path | None = None) -> None:
        registry = self._told = CollectorRegistry()
        self._is_shared = shared is not None
        self._answers: str | None = None
        if shared:
            self._told = CollectorRegistry()
            MultiProcessCollector(self._told, str(shared))
        requests = Counter("darkroom_requests", "Requests by path and status.", ["path", "status"], registry=registry)
        latency = Histogram(
            "darkroom_request_seconds", "From a request's first byte to its answer.", ["path"],
            buckets=LATENCY_BUCKETS, registry=registry,
        )  # fmt: skip
        # To find a counter by its labels takes longer than to count.
        self._requests = cache(requests.labels)
        self._latency = cache(latency.labels)
        self.refused = Counter(
            "darkroom_refused_connections", "Connections that were refused before their request was whole.", ["status"],
            registry=registry,
        )  # fmt: skip
        self.batches = Histogram(
            "darkroom_batch_images", "Images that went through the model together.",
            buckets=BATCH_BUCKETS, registry=registry,
        )  # fmt: skip
        predictions = Counter(
            "darkroom_predictions", "Images by version and predicted class.", ["version", "label"], registry=registry
        )
        unlike = Counter(
            "darkroom_unlike_training", "Images unlike the training images.", ["version"], registry=registry
        )
        sets = Counter(
            "darkroom_prediction_sets", "Prediction sets by version and whether they have no, one or several labels.",
            ["version", "labels"], registry=registry,
        )  # fmt: skip
        self._sets = cache(sets.labels)
        kept = Counter(
            "darkroom_inbox_kept", "Pictures that were kept for people to label.", ["reason"], registry=registry
        )
        lost = Counter(
            "darkroom_inbox_lost", "Pictures that should have been kept: full, disk or busy.", ["why"],
            registry=registry,
        )  # fmt: skip
        self.inbox_kept = cache(kept.labels)
        self.inbox_lost = cache(lost.labels)
        self._predictions = cache(predictions.labels)
        self._unlike = cache(unlike.labels)
        self.waiting = Gauge(
            "darkroom_waiting_images",
            "Images that wait for their answer.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        shadow = Counter(
            "darkroom_shadow_images",
            "Images that the challenger answered too, by whether its answers are equal, different or failed.",
            ["champion", "challenger", "outcome"],
            registry=registry,
        )
        shadow_seconds = Histogram(
            "darkroom_shadow_seconds", "What the challenger takes for an image, decoding included.",
            ["champion", "challenger"], buckets=LATENCY_BUCKETS, registry=registry,
        )  # fmt: skip
        shadow_sets = Counter(
            "darkroom_shadow_set_labels", "Labels in the prediction sets of images that both answered, by the version.",
            ["champion", "challenger", "of"], registry=registry,
        )  # fmt: skip
        self._shadow = cache(shadow.labels)
        self._shadow_sets = cache(shadow_sets.labels)
        self._shadow_seconds = cache(shadow_seconds.labels)
        self.shadow_dropped = Counter(
            "darkroom_shadow_dropped", "Images chosen for the challenger that did not wait for it: too many did.",
            registry=registry,
        )  # fmt: skip
        self.swaps = Counter("darkroom_champion_swaps", "Champions that were taken over.", registry=registry)
        self.registry_up = Gauge(
            "darkroom_registry_up",
            "1 if the registry answered when it was last asked.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.trouble = Gauge(
            "darkroom_champion_trouble",
            "1 if the newest champion does not answer here.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._version = Gauge(
            "darkroom_version", "Processes in which the version answers.", ["version"], registry=registry,
            multiprocess_mode="livesum",
        )  # fmt: skip

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request to ``path``, of which there are few."""
        self._requests(path, status).inc()
        self._latency(path).observe(seconds)

    def count_predictions(self, version: str, labels: Iterable[str], unlike: int) -> None:
        """Count images by the classes predicted, and how many of them are unlike the training images."""
        for label, images in collections.Counter(labels).items():
            self._predictions(version, label).inc(images)
        self._unlike(version).inc(unlike)

    def count_sets(self, version: str, sizes: Ints) -> None:
        """Count prediction sets by their ``sizes`` [n]: several labels are an unsure answer."""
        none, one, several = np.bincount(np.minimum(sizes, 2), minlength=3).tolist()
        for labels, images in (("none", none), ("one", one), ("several", several)):
            if images:
                self._sets(version, labels).inc(images)

    def count_shadow(self, champion: str, challenger: str, outcome: str, seconds: float) -> None:
        """Count an image that the challenger answered too, and what it took."""
        self._shadow(champion, challenger, outcome).inc()
        self._shadow_seconds(champion, challenger).observe(seconds)

    def count_shadow_sets(self, champion: str, challenger: str, sizes: tuple[int, int]) -> None:
        """Count the labels in the prediction sets of the champion and of the challenger, for the same image."""
        for of, labels in zip(("champion", "challenger"), sizes, strict=True):
            self._shadow_sets(champion, challenger, of).inc(labels)

    def value(self, name: str, **labels: str) -> float:
        """A sample of /metrics, summed over all processes; 0 if nothing was counted yet."""
        return self._told.get_sample_value(name, labels) or 0.0

    def now_serves(self, version: str) -> None:
        if self._answers is not None:
            self._version.labels(self._answers).set(0)
        if not self._is_shared:  # a shared file keeps every label
            self._version.clear()
        self._version.labels(version).set(1)
        self._answers = version

    def text(self, drift: Mapping[str, Any] | None) -> bytes:
        """Everything, in Prometheus' text form; ``drift`` holds the values of the drift watch, if there is one."""
        return generate_latest(self._told) + (generate_latest(_Drift(drift)) if drift else b"")


class _Drift(Collector):
    """The values of the drift watch as metrics, made when they are read."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def collect(self) -> Iterable[Metric]:
        for name, about in (
            ("images", "Images in the window of the drift watch."),
            ("unlike_share", "Share of them unlike the training images."),
            ("expected_unlike_share", "The same in the validation split."),
            ("confidence", "Their mean confidence."),
            ("expected_confidence", "The same in the validation split."),
            ("set_size", "Mean size of their prediction sets."),
            ("expected_set_size", "The same in the validation split."),
        ):
            yield GaugeMetricFamily(f"darkroom_drift_{name}", about, _number(self._values[name]))
        share = GaugeMetricFamily(
            "darkroom_drift_class_share", "Share of them predicted as each class.", labels=["label"]
        )
        expected = GaugeMetricFamily(
            "darkroom_drift_class_share_expected", "The same in the validation split.", labels=["label"]
        )
        for each in self._values["classes"]:
            share.add_metric([each["label"]], _number(each["share"]))
            expected.add_metric([each["label"]], each["expected"])
        yield from (share, expected)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
