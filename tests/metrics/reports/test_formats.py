"""Reports as JSON, CSV and pages."""

import csv
import json
from io import StringIO

import pytest

from metrics.models import RefusedSlot
from metrics.reports.fleet import FleetRow
from metrics.reports.formats import csv_of, table_of, usage_html, usage_object
from metrics.reports.usage import usage_report
from tests.metrics.records import a_name
from tests.metrics.reports.totals import add, moment, query

pytestmark = pytest.mark.django_db
DAY = {"from_": "2026-11-20", "to": "2026-11-20"}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1+cmd", "'-1+cmd"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-0.000000005", "-0.000000005"),
        ("12.50", "12.50"),
        ("ann", "ann"),
        (-5, "-5"),
        (0.25, "0.25"),
        (None, ""),
    ],
)
def test_csv_has_no_formulas_and_true_numbers(value: object, written: str) -> None:
    row = FleetRow(moment("2026-11-20"), moment("2026-11-21"), {"node": value}, 1, 2)
    _, cells = csv.reader(StringIO(csv_of(query(), [row])))
    assert cells[2] == written


def test_csv_of_usage_has_names_ids_and_figures() -> None:
    a_name("user", 1, '=HYPERLINK("x")', moment("2026-01-01"))
    add("2026-11-20T10:00", 3, failed=1, cost_nano=1_500_000_000, correction_nano=-5)
    report = usage_report(query(**DAY, group="user,model", period="day"))
    (row,) = csv.DictReader(StringIO(csv_of(report.query, report.rows)))
    assert row["from"] == "2026-11-20T00:00:00+00:00"
    assert (row["user"], row["user_id"], row["model"]) == ('\'=HYPERLINK("x")', "1", "m")
    assert (row["requests_count"], row["error_rate"]) == ("3", "0.3333")
    assert (row["estimated_cost"], row["cost_corrections"]) == ("1.500000000", "-0.000000005")


def test_csv_of_nothing_has_a_header() -> None:
    report = usage_report(query(group="key,version"))
    header = csv_of(report.query, [], report.totals.figures())
    assert header.startswith("from,to,key,key_id,version,requests_count,")
    add("2026-11-20T10:00", 1)
    full = usage_report(query(**DAY, group="key,version"))
    assert csv_of(full.query, full.rows).startswith(header)


def test_json_says_what_it_covers() -> None:
    add("2026-11-20T10:00", 3)
    RefusedSlot.objects.create(slot=moment("2026-11-20T10:00"), code="model_busy", requests=6)
    report = usage_report(query(**DAY, tz="Europe/Berlin", group="model", compare="previous"))
    assert usage_object(report)["note"] == ""
    nothing = usage_object(usage_report(query(**DAY, filter="model:typo")))
    assert (nothing["data"], nothing["note"]) == ([], "nothing matches")
    found = json.loads(json.dumps(usage_object(report)))
    assert (found["from"], found["to"]) == (
        "2026-11-20T00:00:00+01:00",
        "2026-11-21T00:00:00+01:00",
    )
    assert (found["tz"], found["period"], found["group"]) == ("Europe/Berlin", None, ["model"])
    (row,) = found["data"]
    assert (row["model"], row["requests_count"]) == ("m", 3)
    assert found["totals"]["requests_count"] == 3
    assert found["previous"]["to"] == "2026-11-20T00:00:00+01:00"
    assert (found["previous"]["requests_count"], found["refused"]) == (0, {"model_busy": 6})


def test_table_has_totals_and_corrections_only_where_there_are_any() -> None:
    add("2026-11-20T10:00", 3, finished_us=3_000_000, cost_nano=2_000_000)
    add("2026-11-21T10:00", 1, version_key="n@v1")
    asked = {"from_": "2026-11-20", "to": "2026-11-21", "period": "day", "group": "model"}
    table = table_of(usage_report(query(**asked, compare="previous")))
    assert table.header[:3] == ["Time", "Model", "Requests"]
    assert table.rows[0] == ["2026-11-20", "m", "3", "0", "0", "0", "1.0 s", "0.00%", "$0.0020"]
    total, previous = table.last
    assert total[:3] == ["Total", "", "4"]
    assert previous == ["Previous", "", "0", "0", "0", "0", "-", "-", "$0.00"]
    add("2026-11-18T10:00", correction_nano=5_000_000)
    assert table_of(usage_report(query(**asked))).header[-1] == "Cost"
    compared = table_of(usage_report(query(**asked, compare="previous")))
    assert (compared.header[-1], compared.last[1][-1]) == ("Of it corrections", "$0.0050")
    add("2026-11-21T10:00", correction_nano=5_000_000)
    assert table_of(usage_report(query(**asked))).header[-1] == "Of it corrections"


def test_table_of_one_row_is_its_total() -> None:
    add("2026-11-20T10:00", 3)
    table = table_of(usage_report(query(**DAY, compare="previous")))
    lines = [line[:2] for line in (table.header, *table.rows, *table.last)]
    assert (table.labels, lines) == (1, [["", "Requests"], ["Total", "3"], ["Previous", "0"]])


def test_page_prints_names_as_text_and_loads_nothing() -> None:
    a_name("user", 1, "<script>alert(1)</script>", moment("2026-01-01"))
    add("2026-11-20T10:00")
    RefusedSlot.objects.create(slot=moment("2026-11-20T10:00"), code="model_busy", requests=6)
    page = usage_html(
        "Usage", [("By user", usage_report(query(**DAY, group="user", tz="Asia/Tokyo")))]
    )
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "@media print" in page
    assert "model_busy" in page
    assert not [word for word in ("http:", "https:", "src=", "url(") if word in page]
    assert "2026-11-20 00:00 to 2026-11-21 00:00, Asia/Tokyo" in page
    assert "No requests" in usage_html(
        "Usage", [("Nothing", usage_report(query(last="1h", group="key")))]
    )
