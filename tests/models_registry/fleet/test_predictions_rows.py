"""Predictions as rows: settled, counted, bounded, shown."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from models_registry.fleet import predictions
from models_registry.fleet.predictions import Tally
from models_registry.models import ModelVersion, Prediction
from models_registry.plan.facts import Placement
from models_registry.plan.history import HORIZON_SECONDS, Arrivals
from models_registry.plan.prediction import Outcome, Preload
from tests.models_registry.fleet_rows import a_version

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
GRACE_SECONDS = 60.0
GIB = 1 << 30


def predicted(version: ModelVersion, at: datetime = NOON) -> Prediction:
    preload = Preload(version.key, 0.75, Placement("local", "auto", {"cpu": GIB, "cuda:0": GIB}))
    predictions.note_preloads([preload], at, acted_on=False)
    return Prediction.objects.get(version=version, made_at=at)


def settled(row: Prediction, now_seconds: float, *asked_at_seconds: float) -> Prediction:
    """The row after requests became known; seconds from when it was made."""
    arrivals = [
        Arrivals("chat", row.version.key, row.made_at.timestamp() + seconds, 1)
        for seconds in asked_at_seconds
    ]
    now = row.made_at + timedelta(seconds=now_seconds)
    predictions.settle(predictions.open_predictions(now), arrivals, now, GRACE_SECONDS)
    row.refresh_from_db()
    return row


def test_prediction_keeps_what_was_foreseen() -> None:
    row = predicted(a_version())
    assert (row.probability, row.needed_bytes, row.outcome) == (0.75, 2 * GIB, "pending")
    assert row.until == NOON + timedelta(seconds=HORIZON_SECONDS)
    assert row.wasted_byte_seconds == 0.0


def test_prediction_is_a_hit_from_its_first_request_on() -> None:
    row = settled(predicted(a_version()), 300, 200, 100, 250)
    assert (row.outcome, row.wasted_byte_seconds) == (Outcome.HIT, 100.0 * 2 * GIB)
    assert settled(row, 9999).outcome == Outcome.HIT


def test_prediction_is_no_hit_by_requests_before_or_after_it_or_for_others() -> None:
    row = predicted(a_version())
    other = Arrivals("chat", a_version().key, NOON.timestamp() + 10, 1)
    predictions.settle([row], [other], NOON + timedelta(seconds=20), GRACE_SECONDS)
    assert settled(row, 30, -1.0).outcome == Outcome.PENDING
    late = settled(row, HORIZON_SECONDS + 10, HORIZON_SECONDS)
    assert late.outcome == Outcome.PENDING


def test_prediction_is_waste_when_no_request_can_come_to_light_any_more() -> None:
    row = predicted(a_version())
    assert settled(row, HORIZON_SECONDS + GRACE_SECONDS - 1).outcome == Outcome.PENDING
    row = settled(row, HORIZON_SECONDS + GRACE_SECONDS)
    assert (row.outcome, row.wasted_byte_seconds) == ("waste", HORIZON_SECONDS * 2 * GIB)


def test_predictions_stay_open_until_their_time_is_over() -> None:
    row = settled(predicted(a_version()), 300, 100)
    assert predictions.open_predictions(NOON + timedelta(seconds=1000)) == [row]
    assert predictions.open_predictions(row.until) == []


def test_predictions_that_nobody_watched_are_dropped() -> None:
    old, new = predicted(a_version()), predicted(a_version(), NOON + timedelta(hours=1))
    judged = settled(predicted(a_version()), 300, 100)
    assert predictions.drop_unwatched(NOON + timedelta(minutes=1)) == 1
    assert set(Prediction.objects.all()) == {new, judged}
    assert old.version.predictions.count() == 0


def test_predictions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "KEPT_ROWS", 3)
    version = a_version()
    for minute in range(5):
        predictions.note_missed(version.key, NOON + timedelta(minutes=minute), 0.1, GIB)
    kept = [row.made_at.minute for row in Prediction.objects.all()]
    assert kept == [4, 3, 2]


def test_predictions_of_a_version_that_is_gone_are_not_noted() -> None:
    predictions.note_missed("gone@v", NOON, 0.1, GIB)
    assert not Prediction.objects.exists()


def some_of_each() -> tuple[ModelVersion, ModelVersion]:
    """Three hits, a waste, a pending one and a missed one of one version; a miss of another."""
    first, second = a_version(), a_version()
    begin = timezone.now() - timedelta(days=1)
    for hour in range(3):
        settled(predicted(first, begin + timedelta(hours=hour)), 300, 100)
    settled(predicted(first, begin + timedelta(hours=3)), HORIZON_SECONDS + GRACE_SECONDS)
    predictions.note_missed(first.key, begin, 0.4, GIB)
    predictions.note_missed(second.key, begin, 0.0, GIB)
    predicted(first, begin + timedelta(hours=4))
    return first, second


def test_tallies_count_by_version() -> None:
    first, second = some_of_each()
    found = predictions.tallies(timezone.now() - timedelta(days=2))
    wasted = (3 * 100.0 + HORIZON_SECONDS) * 2 * GIB
    assert found == {first.key: Tally(3, 1, 1, 1, wasted), second.key: Tally(missed=1)}
    assert (found[first.key].precision, found[first.key].recall) == (0.75, 0.75)
    assert (found[second.key].precision, found[second.key].recall) == (None, 0.0)
    together = predictions.total(found.values())
    assert together == Tally(3, 1, 2, 1, wasted)
    assert together.recall == 0.6
    assert predictions.tallies(timezone.now()) == {}


def written(*arguments: str) -> str:
    out = StringIO()
    call_command("predictions", *arguments, stdout=out)
    return out.getvalue()


def test_predictions_command_shows_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert "No predictions." in written()
    some_of_each()
    text = written("--days", "2")
    assert "Demand prediction: shadow. The last 2 days:" in text
    assert "all " in text
    assert "75%" in text
    assert "1.17" in text


def test_predictions_command_writes_json() -> None:
    first, second = some_of_each()
    found = json.loads(written("--json"))
    assert (found["prediction"], found["days"]) == ("shadow", 7.0)
    assert (found["total"]["hits"], found["total"]["recall"]) == (3, 0.6)
    assert found["versions"].keys() == {first.key, second.key}
    assert found["versions"][second.key]["precision"] is None


def test_predictions_command_refuses_a_time_that_makes_no_sense() -> None:
    with pytest.raises(CommandError, match="--days 0"):
        written("--days", "0")
