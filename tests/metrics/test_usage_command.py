"""``manage.py usage``."""

import csv
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
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


def test_command_without_groups_prints_the_total_once(used: None) -> None:
    _, total = printed("--last", "2d").splitlines()
    assert total.split()[:2] == ["Total", "1,800"]


def test_command_filters_and_prints_csv(used: None) -> None:
    rows = list(
        csv.DictReader(StringIO(printed("--by", "version", "--filter", "model:n", "--csv")))
    )
    assert [(row["version"], row["requests_count"]) for row in rows] == [("n@v1", "600")]


def test_command_prints_names_without_orders_to_the_terminal() -> None:
    a_name("user", 1, "\x1b[2Jann\r", timezone.now())
    add(slot_of(timezone.now()).isoformat()[:16])
    assert "?[2Jann?" in printed("--by", "user")


@pytest.mark.parametrize("command", ["usage", "demo_usage"])
def test_command_without_the_service_says_so_in_one_line(
    command: str, settings, tmp_path: Path, unused_tcp_port: int
) -> None:
    away = f"postgres://a:b@127.0.0.1:{unused_tcp_port}/c"
    ended = subprocess.run(
        [sys.executable, "manage.py", command],
        cwd=settings.BASE_DIR,
        env={**os.environ, "BRIGADE_HOME": str(tmp_path), "DATABASE_URL": away},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert line.startswith("Postgres or Redis does not answer: is the service up? ")


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
