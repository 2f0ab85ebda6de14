"""`darkroom results` shows each metric with its interval, and reads reports that have fewer."""

import json

import pytest


@pytest.fixture
def metrics(evaluated):
    return evaluated / "reports" / "evaluate" / "metrics.json"


def shown(output):
    """The value and the interval by metric."""
    rows = (line.split("│") for line in output.splitlines() if line.startswith("│"))
    return {name.strip(): (value.strip(), interval.strip()) for _, name, value, interval, _ in rows}


def test_each_metric_is_shown_with_its_interval(darkroom, metrics):
    summary = json.loads(metrics.read_text())

    code, output, _ = darkroom("results")

    rows = shown(output)
    assert code == 0
    for key in ("accuracy", "f1_macro", "log_loss", "calibration_error", "calibrated_log_loss", "top_3_accuracy"):
        interval = f"{summary[f'{key}_low']:.4f} to {summary[f'{key}_high']:.4f}"
        assert rows[key.replace("_", " ")] == (f"{summary[key]:.4f}", interval)
    assert rows["images"] == ("360", "")
    assert not [name for name in rows if name.endswith((" low", " high"))]


def test_a_report_with_the_interval_of_the_accuracy_alone_is_shown(darkroom, metrics):
    summary = json.loads(metrics.read_text())
    fewer = {
        key: value
        for key, value in summary.items()
        if not key.endswith(("_low", "_high")) or key.startswith("accuracy")
    }
    metrics.write_text(json.dumps(fewer))

    code, output, _ = darkroom("results")

    rows = shown(output)
    assert code == 0
    assert rows["accuracy"][1] == f"{summary['accuracy_low']:.4f} to {summary['accuracy_high']:.4f}"
    assert rows["f1 macro"] == (f"{summary['f1_macro']:.4f}", "")
    assert json.loads(darkroom("results", "--json")[1])["metrics"] == fewer
