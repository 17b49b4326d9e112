"""``manage.py usage``."""

import csv
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from metrics.ledger.slots import slot_of
from tests.metrics.records import a_name
from tests.metrics.reports.totals import add

pytestmark = pytest.mark.django_db


def printed(*arguments: str, **options: Any) -> str:
    output = StringIO()
    call_command("usage", *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def used() -> None:
    a_name("user", 1, "[red]ann", timezone.now())
    now = slot_of(timezone.now()).isoformat()[:16]
    add(now, 1200, cost_nano=2_000_000_000)
    add(now, 600, version_key="n@v1", user_id=2)


def test_command_prints_a_table_with_bars(used: None) -> None:
    lines = printed("--last", "2d", "--by", "model", "--by", "user").splitlines()
    first = next(line for line in lines if "[red]ann" in line)
    second = next(line for line in lines if "#2" in line)
    assert (first.count("█"), second.count("█")) == (8, 4)
    assert "1,200" in first
    assert "$2.00" in first
    total = next(line for line in lines if "Total" in line)
    assert "1,800" in total


def test_command_filters_and_prints_csv(used: None) -> None:
    rows = list(
        csv.DictReader(StringIO(printed("--by", "version", "--filter", "model:n", "--csv")))
    )
    assert [(row["version"], row["requests_count"]) for row in rows] == [("n@v1", "600")]


def test_command_prints_names_without_orders_to_the_terminal() -> None:
    a_name("user", 1, "\x1b[2Jann\r", timezone.now())
    add(slot_of(timezone.now()).isoformat()[:16])
    assert "?[2Jann?" in printed("--by", "user")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--by", "planet"], "--by: group='planet'"),
        (["--last", "x"], "--last: last='x'"),
        (["--tz", "Mars"], "--tz: tz='Mars'"),
    ],
)
def test_command_names_bad_options(arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError, match=says):
        printed(*arguments)
