"""Usage, latency, cost and the fleet in the admin: charts, tables, CSV, refusals, visibility."""

import csv
from datetime import timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inference.models import Membership, Team
from metrics.models import FleetSample, RefusedSlot
from models_registry.access import VIEWERS
from tests.metrics.records import a_name
from tests.metrics.reports.totals import add, add_shape, moment
from tests.models_registry.admin_users import client_of

pytestmark = pytest.mark.django_db
PAGES = ("usage", "latency", "cost", "fleet")
COMPARED = {"last": "2d", "group": "model", "compare": "previous"}


TODAY = f"{timezone.now():%Y-%m-%d}"


def at(days: int) -> str:
    """Noon some days ago."""
    return f"{timezone.now() - timedelta(days=days):%Y-%m-%d}T12:00"


def content(client: Client, page: str, **query: Any) -> Any:
    answer = client.get(reverse(f"{page}_page"), query)
    assert answer.status_code == 200
    return SimpleNamespace(**answer.context["content"])


def summed(chart: dict[str, Any]) -> dict[str, float]:
    return {one["name"]: sum(one["values"]) for one in chart["series"]}


def parts(table: Any) -> dict[str, list[list[str]]]:
    return {name: rows for name, _, rows in table.parts}


@pytest.fixture
def viewer() -> Client:
    return client_of(VIEWERS)


@pytest.mark.parametrize("page", PAGES)
def test_page_without_any_request_says_so(viewer: Client, page: str) -> None:
    answer = viewer.get(reverse(f"{page}_page"))
    assert answer.status_code == 200
    assert "Nothing in this range." in answer.content.decode()


def test_usage_without_parts_has_a_line_that_is_called_total(viewer: Client) -> None:
    add(at(1), 3)
    (table,) = content(viewer, "usage", last="2d").tables
    assert ([row[:2] for row in table.rows], table.last) == ([["Total", "3"]], [])


def test_print_has_the_total_after_the_last_row_only() -> None:
    style = Path(finders.find("metrics/ledger.css")).read_text().partition("@media print")[2]
    assert "tfoot {\n    display: table-row-group;" in style


@pytest.mark.parametrize("page", PAGES)
def test_page_asks_strangers_to_log_in(client: Client, page: str) -> None:
    answer = client.get(reverse(f"{page}_page"))
    assert answer.status_code == 302
    assert answer.url.startswith("/admin/login/")


def test_usage_has_the_same_numbers_in_figures_charts_and_tables(viewer: Client) -> None:
    add(at(3), 5, version_key="a@v1", prompt_tokens=10, completion_tokens=1, cost_nano=2 * 10**9)
    add(at(2), 2, version_key="a@v2", failed=1)
    add(at(2), 3, version_key="b@v1")
    RefusedSlot.objects.create(slot=moment(at(2)), code="model_busy", requests=4)
    found = content(viewer, "usage")
    assert found.figures[0] == ("Requests", "10", "")
    requests, tokens, cost, failed = map(summed, found.charts)
    assert requests == {"a": 7, "b": 3}
    assert (tokens, cost, failed) == ({"a": 11}, {"a": 2.0}, {"a": 1})
    totals, over_time = map(parts, found.tables)
    assert [row[:2] for row in totals["tbody"]] == [["a", "7"], ["b", "3"]]
    assert totals["tfoot"][0][:2] == ["Total", "10"]
    assert len(over_time["tbody"]) == 3
    assert found.refused == {"model_busy": 4}


def test_usage_compares_with_the_previous_period(viewer: Client) -> None:
    add(at(1), 6)
    add(at(3), 4)
    found = content(viewer, "usage", **COMPARED)
    assert found.figures[0] == ("Requests", "6", "previous 4, +50%")
    assert summed(found.charts[0]) == {"m": 6, "previous": 4}


@pytest.mark.parametrize("page", ["usage", "latency", "cost"])
def test_page_says_that_nothing_matches_a_filter(viewer: Client, page: str) -> None:
    add(at(1), 6)
    add_shape(at(1), "total", [5000])
    address = reverse(f"{page}_page")
    text = viewer.get(address, {"filter": "model:typo"}).content.decode()
    assert "Nothing matches model: typo." in text
    assert "Only model: m." in viewer.get(address, {"filter": "model:m"}).content.decode()


def test_figures_of_nothing_are_unknown_and_not_compared(viewer: Client) -> None:
    add(at(3), 4, finished_us=4_000_000, failed=1)
    found = {name: rest for name, *rest in content(viewer, "usage", **COMPARED).figures}
    assert found["Requests"] == ["0", "previous 4, -100%"]
    assert found["Mean time"] == ["-", "previous 1.0 s"]
    assert found["Errors"] == ["-", "previous 25.00%"]


def test_charts_add_up_the_smallest_of_many_groups(viewer: Client) -> None:
    for number in range(1, 13):
        add(at(1), number, version_key=f"m{number}@v1")
    series = content(viewer, "usage").charts[0]["series"]
    assert [one["name"] for one in series] == [*(f"m{n}" for n in range(12, 5, -1)), "others"]
    assert sum(map(sum, (one["values"] for one in series))) == 78


def test_usage_shows_staff_their_own_and_their_teams() -> None:
    client = client_of("")
    user = get_user_model().objects.get(username="nobody")
    team = Team.objects.create(slug="a")
    Membership.objects.create(team=team, user=user, role="owner")
    add(at(1), 1, user_id=user.pk)
    add(at(1), 2, user_id=user.pk + 1, team_id=team.pk)
    add(at(1), 4, user_id=user.pk + 1)
    assert content(client, "usage").figures[0][1] == "3"
    assert content(client, "usage").refused is None
    assert content(client, "cost").figures
    assert client.get(reverse("fleet_page")).status_code == 403
    assert "Fleet over time" not in client.get(reverse("usage_page")).content.decode()


def test_latency_has_a_line_for_each_percentile_with_gaps(viewer: Client) -> None:
    now = timezone.now()
    add_shape(f"{now - timedelta(hours=3):%Y-%m-%dT%H}:00", "ttft", [100_000] * 9)
    found = content(viewer, "latency", last="6h", period="hour")
    lines = found.charts[0]["series"]
    assert [(line["name"], line["detail"]) for line in lines] == [
        ("m@v1", "p50"),
        ("m@v1", "p95"),
        ("m@v1", "p99"),
    ]
    values = [value for value in lines[0]["values"] if value is not None]
    assert values == [pytest.approx(100, rel=0.02)]
    assert len(lines[0]["values"]) > 5
    assert found.charts[1]["series"] == []


def test_cost_shows_the_month_and_corrections_apart(viewer: Client) -> None:
    a_name("team", 3, "Search")
    for days in range(1, 13):
        add(at(days), 1, team_id=3, cost_nano=10**9, correction_nano=-(10**8))
    found = content(viewer, "cost", last="13d")
    figures = {name: (value, remark) for name, value, remark in found.figures}
    assert figures["Cost in the range"][0] == "$10.80"
    assert sum(summed(found.charts[0]).values()) == pytest.approx(10.8)
    by_team, _, over_time = map(parts, found.tables)
    whole, search = by_team["tbody"]
    assert (whole[0], search[0]) == ("all", "Search")
    assert whole[1:] == search[1:]
    assert figures["This month so far"][0] == whole[1]
    assert " to " in whole[3]
    assert over_time["thead"][0][-2:] == ["Cost", "Of it corrections"]
    assert over_time["tbody"][0][-2:] == ["$10.80", "-$1.20"]


def test_cost_lists_the_dearest_group_first(viewer: Client) -> None:
    add(at(1), 9, team_id=3, cost_nano=10**9)
    add(at(1), 1, team_id=4, cost_nano=2 * 10**9)
    tables = {table.title: table.rows for table in content(viewer, "cost").tables}
    assert [row[0] for row in tables["Totals"]] == ["#4", "#3"]


def test_fleet_shows_memory_loads_and_waits(viewer: Client) -> None:
    FleetSample.objects.create(
        taken_at=moment(at(1)), node="n1", version_key="m@v1", resident_bytes=2**30, loads=1
    )
    memory, loads, waits = content(viewer, "fleet").charts
    assert summed(memory) == {"m@v1": 1.0}
    assert summed(loads) == {"m@v1": 1}
    assert waits["series"] == []


@pytest.mark.parametrize("page", PAGES)
def test_page_gives_csv(viewer: Client, page: str) -> None:
    add(at(1), 7)
    add_shape(at(1), "total", [5000])
    FleetSample.objects.create(
        taken_at=moment(at(1)), node="n1", version_key="m@v1", resident_bytes=1
    )
    answer = viewer.get(reverse(f"{page}_page"), {"format": "csv", "tz": "Asia/Tokyo"})
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == f'attachment; filename="{page}.csv"'
    header, *rows = csv.reader(StringIO(answer.content.decode()))
    assert len(rows) == 1
    assert len(rows[0]) == len(header)


@pytest.mark.parametrize(
    ("page", "query", "named"),
    [
        ("usage", {"tz": "Mars/Base"}, "tz=&#x27;Mars/Base&#x27;"),
        ("usage", {"from": "2026-05-02", "to": "2026-05-01"}, "&#x27;from&#x27; must be before"),
        ("usage", {"group": "colour"}, "group=&#x27;colour&#x27;"),
        ("usage", {"colour": "red"}, "Unknown parameter &#x27;colour&#x27;"),
        ("latency", {"group": "user"}, "not by user"),
        ("latency", {"compare": "previous"}, "Latency has no parameter &#x27;compare&#x27;"),
        ("fleet", {"filter": "user:ann"}, "Fleet over time has no parameter &#x27;filter&#x27;"),
        ("cost", {"filter": "<script>"}, "filter=&#x27;&lt;script&gt;&#x27;"),
    ],
)
def test_page_names_bad_input(viewer: Client, page: str, query: dict[str, str], named: str) -> None:
    answer = viewer.get(reverse(f"{page}_page"), query)
    assert answer.status_code == 400
    assert named in answer.content.decode()


def test_form_keeps_the_question(viewer: Client) -> None:
    add("2026-05-10T12:00", 3)
    query = {"last": "", "from": "2026-05-10T00:00", "to": "2026-05-10", "tz": "Asia/Kolkata"}
    query |= {"group": "model,mode", "filter": "model:m", "period": ""}
    answer = viewer.get(reverse("usage_page"), query)
    text = answer.content.decode()
    assert "By model and mode. Only model: m." in text
    assert answer.context["content"]["figures"][0][1] == "3"
    assert "2026-05-10 00:00 to 2026-05-11 00:00, Asia/Kolkata" in text
    for kept in ("2026-05-10T00:00", "2026-05-10", "Asia/Kolkata", "model:m"):
        assert f'value="{kept}"' in text
    assert text.count('type="date"') == 1
    assert '<option value="model,mode" selected>' in text
    assert answer.context["content"]["charts"][0]["series"][0]["name"] == "m, single"


@pytest.mark.parametrize(("page", "last"), [("usage", "30d"), ("fleet", "7d")])
def test_form_names_the_range_that_an_address_leaves_out(
    viewer: Client, page: str, last: str
) -> None:
    answer = viewer.get(reverse(f"{page}_page"), {"period": "day"})
    assert f'<option value="{last}" selected>' in answer.content.decode()
    dates = viewer.get(reverse(f"{page}_page"), {"from": TODAY}).content.decode()
    assert '<option value="" selected>(by dates)</option>' in dates


def test_names_of_groups_cannot_leave_the_data_of_the_charts(viewer: Client) -> None:
    a_name("user", 1, "</script><script>alert(1)</script>")
    add(at(1), 3)
    text = viewer.get(reverse("usage_page"), {"group": "user"}).content.decode()
    assert "<script>alert(1)" not in text
