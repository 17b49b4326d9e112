"""Memory and loads over time."""

import pytest

from metrics.models import FleetSample
from metrics.reports.fleet import FleetRow, fleet_report
from tests.metrics.reports.totals import moment, query

pytestmark = pytest.mark.django_db


def sample(at: str, version: str, held: int, loads: int = 0, node: str = "local") -> None:
    FleetSample.objects.create(
        taken_at=moment(at), node=node, version_key=version, resident_bytes=held, loads=loads
    )


def test_fleet_averages_memory_and_adds_loads() -> None:
    sample("2026-11-20T10:00", "a@v1", 100, 1)
    sample("2026-11-20T10:05", "a@v1", 300, 2)
    sample("2026-11-20T10:05", "b@v1", 50)
    sample("2026-11-20T11:00", "b@v1", 70, 1, node="other")
    sample("2026-12-20T11:00", "b@v1", 1)
    day = {"from_": "2026-11-20", "to": "2026-11-20"}
    ten, eleven, twelve = (moment(f"2026-11-20T1{hour}:00") for hour in range(3))
    assert fleet_report(query(**day, period="hour")) == [
        FleetRow(ten, eleven, {"node": "local", "version": "a@v1"}, 200, 3),
        FleetRow(ten, eleven, {"node": "local", "version": "b@v1"}, 25, 0),
        FleetRow(eleven, twelve, {"node": "other", "version": "b@v1"}, 70, 1),
    ]
    assert [row.resident_bytes for row in fleet_report(query(**day))] == [133, 16, 23]
