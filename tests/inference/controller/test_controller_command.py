"""``manage.py controller``: what it waits out, and what it reports."""

import logging
import threading
from collections.abc import Callable

import django.db
import pytest
from django.core.management import call_command

from inference.management.commands import controller as command

Run = Callable[[Exception], tuple[int, int]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command while every tick fails; returns how many ticks and outages there were."""
    monkeypatch.setattr(command, "TICK_SECONDS", 0.0)
    monkeypatch.setattr(command.signal, "signal", lambda *_: None)

    def run_(error: Exception) -> tuple[int, int]:
        ticks, outages = [], []
        stop = threading.Event()

        class Failing:
            def __init__(self, *_: object) -> None: ...

            def attend(self) -> None:
                ticks.append(1)
                if len(ticks) == 3:
                    stop.set()
                raise error

            def note_outage(self) -> None:
                outages.append(1)

        class Idle:
            def __init__(self, **_: object) -> None: ...

            def start(self) -> None: ...

            def join(self, _timeout: float) -> None: ...

        monkeypatch.setattr(command, "Controller", Failing)
        monkeypatch.setattr(command.threading, "Thread", Idle)
        monkeypatch.setattr(command.threading, "Event", lambda: stop)
        call_command("controller")
        return len(ticks), len(outages)

    return run_


@pytest.mark.django_db
def test_an_outage_is_waited_out_and_told_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    assert run(django.db.OperationalError("gone")) == (3, 3)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.django_db
def test_a_row_at_odds_is_told_each_time_and_is_no_outage(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(django.db.IntegrityError("odd")) == (3, 0)
    assert [bool(record.exc_info) for record in caplog.records] == [True, True, True]
