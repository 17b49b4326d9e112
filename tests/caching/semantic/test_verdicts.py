"""Comparisons: what they do to an entry, how they stop a cache, and how a person lifts the stop."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from caching.models import CacheVerdict, SemanticEntry
from caching.semantic import store, verdicts
from tests.caching.entries import added, compared, find, form, patience

__all__ = ["form", "patience"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("patience")]


def state(entry: SemanticEntry) -> str:
    entry.refresh_from_db()
    return entry.state


def every() -> list[int]:
    return list(CacheVerdict.objects.values_list("pk", flat=True))


def test_record_that_agrees_leaves_the_entry_alone() -> None:
    made = added(preset="fast")
    verdict = compared(made, "it  rains.")
    assert (verdict.agrees, verdict.source) == (True, "shadow")
    assert (verdict.version_key, verdict.preset) == ("m@v1", "fast")
    assert state(made) == "live"
    assert find() is not None


def test_record_that_differs_waits_for_a_person_and_the_entry_is_not_served(form: str) -> None:
    made = added()
    verdict = compared(made, "It snows.")
    assert verdict.agrees is None
    assert state(made) == "suspect"
    assert find() is None


def test_record_uses_the_likeness_of_the_answers() -> None:
    made = added()
    verdict = CacheVerdict(
        entry=made, prompt="asked", answer_text="Rain falls.", similarity=0.9, user_id=8
    )
    verdicts.record(verdict, likeness=0.95)
    assert verdict.agrees is True


def test_record_of_a_forgotten_entry_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    made = added()
    store.forget()
    compared(made, "It snows.")
    assert not CacheVerdict.objects.exists()
    assert not caplog.records


def test_decision_agrees_serves_the_entry_again(form: str) -> None:
    made = added()
    verdict = compared(made, "It snows.")
    assert verdicts.decide(every(), agrees=True) == 1
    verdict.refresh_from_db()
    assert (verdict.agrees, verdict.source) == (True, "person")
    assert state(made) == "live"
    hit = find()
    assert hit is not None
    assert hit.entry == made


def test_decision_agrees_leaves_an_entry_suspect_that_has_another_open_comparison() -> None:
    made = added()
    verdict = compared(made, "It snows.")
    compared(made, "It hails.")
    verdicts.decide([verdict.pk], agrees=True)
    assert state(made) == "suspect"


def test_decision_differs_refuses_the_entry() -> None:
    made = added()
    compared(made, "It rains.")
    verdict = compared(made, "It snows.")
    verdicts.decide([verdict.pk], agrees=False)
    assert state(made) == "refused"
    assert find() is None


def test_decision_does_not_lengthen_the_life_of_an_entry() -> None:
    made = added(expires_at=timezone.now() - timedelta(seconds=1))
    compared(made, "It snows.")
    verdicts.decide(every(), agrees=True)
    assert state(made) == "live"
    assert find() is None


def wrong(number: int, **fields: str) -> None:
    for _ in range(number):
        compared(added(**fields), "It snows.")


def right(number: int) -> None:
    made = added()
    for _ in range(number):
        compared(made, "It rains.")


def test_stop_is_by_version_and_preset() -> None:
    right(5)
    wrong(2)
    assert not verdicts.is_stopped("m@v1", "")
    verdicts._tallies.clear()
    wrong(1)
    assert verdicts.is_stopped("m@v1", "")
    assert not verdicts.is_stopped("m@v1", "fast")
    assert not verdicts.is_stopped("m@v2", "")
    found = verdicts.tally("m@v1", "")
    assert found is not None
    assert (found.comparisons, found.wrong) == (8, 3)


def test_stop_is_known_some_seconds_later(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not verdicts.is_stopped("m@v1", "")
    wrong(3)
    assert not verdicts.is_stopped("m@v1", "")
    monkeypatch.setattr(verdicts, "_TALLY_SECONDS", 0)
    assert verdicts.is_stopped("m@v1", "")


def test_stop_ends_when_a_person_says_that_answers_agree() -> None:
    wrong(3)
    assert verdicts.is_stopped("m@v1", "")
    verdicts.decide(every(), agrees=False)
    assert verdicts.is_stopped("m@v1", "")
    verdicts.decide(every()[:1], agrees=True)
    assert not verdicts.is_stopped("m@v1", "")


def test_stop_outlasts_the_entries() -> None:
    wrong(3)
    store.forget(version="m@v1")
    assert verdicts.is_stopped("m@v1", "")


def test_stop_where_nobody_knows(caplog: pytest.LogCaptureFixture) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE caching_cacheverdict RENAME TO away")
        assert verdicts.is_stopped("m@v1", "")
        cursor.execute("ALTER TABLE away RENAME TO caching_cacheverdict")
    assert len(caplog.records) == 1
    assert not verdicts.is_stopped("m@v1", "")


def test_tallies_tell_versions_and_presets_apart() -> None:
    wrong(1)
    right(2)
    wrong(2, version_key="m@v2", preset="fast")
    found = {(one.version_key, one.preset): one for one in verdicts.tallies()}
    assert {pair: (one.comparisons, one.wrong) for pair, one in found.items()} == {
        ("m@v1", ""): (3, 1),
        ("m@v2", "fast"): (2, 2),
    }
