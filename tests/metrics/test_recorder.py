"""Records are written once, with their steps, marks and names."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DataError

from metrics import recorder
from metrics.ledger.entry import decode_entry, stored_fields
from metrics.models import DimensionName, RequestRecord, RequestStep, RollMark
from metrics.recorder import write
from tests.metrics.rows import STARTED_AT, entry, record

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_known_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_known_names", {})


def test_record_keeps_everything() -> None:
    one = record(team_id=None, prefill_us=None, cost_nano=2**40)
    write([entry(run_id=one.run_id, team_id=None, prefill_us=None, cost_nano=2**40)])
    row = RequestRecord.objects.get()
    names = [field.attname for field in stored_fields(RequestRecord)]
    assert {name: getattr(row, name) for name in names} == {
        name: getattr(one, name) for name in names
    }


def test_second_record_of_a_run_is_ignored() -> None:
    first, second = entry(run_id="a"), entry(run_id="b")
    assert write([first]) == [first.record]
    again = entry(run_id="a", outcome="failed", completion_tokens=0)
    assert write([again, second]) == [second.record]
    assert RequestRecord.objects.get(run_id="a").outcome == "finished"
    assert RequestRecord.objects.count() == 2


def test_steps_are_written_once() -> None:
    one = entry()
    for number in range(3):
        one.steps.append(
            RequestStep(
                run_id=one.run_id,
                started_at=STARTED_AT,
                number=number,
                kind="choice",
                version_key="m@v",
                outcome="finished",
            )
        )
    write([one])
    write([one])
    assert [step.number for step in RequestStep.objects.all()] == [0, 1, 2]


def test_each_batch_marks_its_quarters_of_an_hour() -> None:
    late = STARTED_AT + timedelta(minutes=15)
    write([entry(), entry(), entry(started_at=late)])
    slots = {datetime(2026, 5, 10, 12, 0, tzinfo=UTC), datetime(2026, 5, 10, 12, 15, tzinfo=UTC)}
    assert {mark.slot for mark in RollMark.objects.all()} == slots
    assert RollMark.objects.count() == 2
    write([entry()])
    assert RollMark.objects.count() == 3


def test_names_are_kept_as_they_were() -> None:
    later = STARTED_AT + timedelta(days=1)
    write([entry(("user", 7, "ann")), entry(("user", 7, "ann"))])
    write([entry(("user", 7, "ann"))])
    write([entry(("user", 7, "Ann Lee"), started_at=later)])
    recorder._known_names.clear()
    write([entry(("user", 7, "Ann Lee"), started_at=later + timedelta(hours=1))])
    names = DimensionName.objects.order_by("valid_from").values_list("name", "valid_from")
    assert list(names) == [("ann", STARTED_AT), ("Ann Lee", later)]


def test_batch_is_written_whole_or_not() -> None:
    with pytest.raises(DataError):
        write([entry(), entry(kind="x" * 17)])


def test_entry_comes_back_from_its_bytes() -> None:
    one = entry(("key", 3, "laptop"))
    one.steps.append(RequestStep(run_id=one.run_id, started_at=STARTED_AT, number=0, kind="choice"))
    again = decode_entry(one.encode())
    assert again.names == [("key", 3, "laptop")]
    assert again.record.started_at == STARTED_AT
    assert again.steps[0].kind == "choice"
    assert vars(again.record) | {"_state": 0} == vars(one.record) | {"_state": 0}
