"""The dashboard and the alerts name metrics and labels that exist."""

import json
import re
from pathlib import Path

import pytest
import yaml

from inference.errors import NotFoundError, RetriableError
from metrics.prometheus.exposition import exposition
from metrics.prometheus.names import COUNTERS, GAUGES, HISTOGRAMS

DOCS = Path(__file__).resolve().parents[3] / "docs"
LABELS = {"version", "preset", "kind", "outcome", "reason", "tier", "le"}


def dashboard_expressions() -> list[str]:
    board = json.loads((DOCS / "grafana-dashboard.json").read_text())
    variables = [one["query"]["query"] for one in board["templating"]["list"][1:]]
    return variables + [t["expr"] for panel in board["panels"] for t in panel["targets"]]


def alert_expressions() -> list[str]:
    groups = yaml.safe_load((DOCS / "prometheus-alerts.yml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def exposed() -> set[str]:
    """Names of all samples that Prometheus gets."""
    text = exposition({}, ()).decode()
    names = set(re.findall(r"^# TYPE (\w+) (?:counter|gauge)$", text, re.M))
    for name in re.findall(r"^# TYPE (\w+) histogram$", text, re.M):
        names |= {name + suffix for suffix in ("_bucket", "_sum", "_count")}
    return names


def test_every_metric_is_exposed():
    assert len(exposed()) == len(COUNTERS) + len(GAUGES) + 3 * len(HISTOGRAMS)


@pytest.mark.parametrize("read", [dashboard_expressions, alert_expressions])
def test_documents_name_what_is_exposed(read):
    expressions = read()
    named = {name for one in expressions for name in re.findall(r"brigade_\w+", one)}
    assert named
    assert named <= exposed()
    for one in expressions:
        assert one.count("(") == one.count(")")
        matched = re.findall(r"(\w+)=~?\"", one)
        grouped = re.findall(r"(?:by|on) \(([\w, ]+)\)", one)
        assert {*matched, *(label for text in grouped for label in text.split(", "))} <= LABELS


def test_alert_on_refusals_is_not_about_mistakes_of_clients():
    (alert,) = [one for one in alert_expressions() if "refused_total" in one]
    (pattern,) = re.findall('reason=~"(.*)"', alert)
    passing = {kind.default_code for kind in RetriableError.__subclasses__()}
    mistakes = {kind.default_code for kind in NotFoundError.__subclasses__()}
    matched = {code for code in passing | mistakes if re.fullmatch(pattern, code)}
    assert "model_not_found" in mistakes
    assert matched == passing - {"host_lost", "too_many_attempts"}


def test_dashboard_shows_every_metric():
    text = "".join(dashboard_expressions())
    metrics = [metric.name for metric in (*COUNTERS, *HISTOGRAMS, *GAUGES)]
    assert [name for name in metrics if name not in text] == []


def test_documentation_lists_every_metric():
    text = (DOCS / "monitoring.md").read_text()
    metrics = [metric.name for metric in (*COUNTERS, *HISTOGRAMS, *GAUGES)]
    assert [name for name in metrics if f"`{name}" not in text] == []
