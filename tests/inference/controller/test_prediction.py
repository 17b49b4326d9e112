"""The controller foresees demand: in shadow it only writes down, otherwise it also loads."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from django.utils import timezone

from inference.controller import prediction as prediction_module
from inference.controller.prediction import EVERY_SECONDS
from inference.queue.claims import HostClaims
from metrics.models import RequestRecord
from models_registry.fleet import desired
from models_registry.fleet.footprints import placements_of
from models_registry.models import ModelVersion, Node, Prediction, Replica
from models_registry.plan.history import DAYS, HORIZON_SECONDS
from models_registry.plan.prediction import Outcome
from tests.inference.controller.controlled_fleet import Fleet
from tests.inference.controller.test_controller import asked
from tests.metrics.records import a_record
from tests.models_registry.fleet_rows import a_version


def came(version: ModelVersion, at: datetime, seconds: float = 1.0) -> None:
    """A request for a version that came at a time, and ended."""
    a_record(version_key=version.key, started_at=at, settled_at=at + timedelta(seconds=seconds))


def likely_version() -> ModelVersion:
    """A version that was asked for in each of the last minutes, and is not in memory."""
    version = a_version()
    for minute in range(1, 6):
        came(version, timezone.now() - timedelta(minutes=minute))
    return version


def foreseeing(fleet: Fleet, setting: str) -> Fleet:
    """The fleet, its one replica serving, under a controller with a setting that begins to look."""
    fleet.world.settings = replace(fleet.world.settings, demand_prediction="off")
    fleet.controller = fleet.new_controller()
    fleet.start()
    fleet.world.settings = replace(fleet.world.settings, demand_prediction=setting)
    fleet.controller = fleet.new_controller()
    return fleet


def rows() -> list[dict[str, object]]:
    return list(Replica.objects.order_by("pk").values())


def test_shadow_writes_down_and_changes_nothing_in_the_fleet(fleet: Fleet) -> None:
    foreseeing(fleet, "shadow")
    version = likely_version()
    before, announced = rows(), list(fleet.announced)
    for _ in range(3):
        fleet.tick()
        fleet.now += EVERY_SECONDS
    assert rows() == before
    assert fleet.announced == announced
    row = Prediction.objects.get()
    assert (row.version, row.outcome, row.acted_on) == (version, "pending", False)
    assert row.probability > 0.5
    assert row.needed_bytes > 1 << 20


def test_act_loads_what_is_foreseen(fleet: Fleet) -> None:
    foreseeing(fleet, "act")
    version = likely_version()
    fleet.tick()
    assert Prediction.objects.get().acted_on
    fleet.tick()
    replica = Replica.objects.get(version=version)
    assert (replica.state, replica.desired, replica.on_demand) == ("starting", "resident", True)
    assert fleet.announced[-1]["args"] == (replica.pk, str(replica.launch_id))
    fleet.now += EVERY_SECONDS
    fleet.tick()
    assert Prediction.objects.count() == 1


def test_what_is_foreseen_stays_foreseen_when_its_host_is_there(fleet: Fleet) -> None:
    foreseeing(fleet, "act")
    version = likely_version()
    fleet.tick()
    fleet.tick()
    replica = Replica.objects.get(version=version)
    Replica.objects.filter(pk=replica.pk).update(state="ready")
    ModelVersion.objects.filter(pk=version.pk).update(keep_alive_seconds=0)
    claims = HostClaims(fleet.world.redis, str(replica.launch_id), version.key)
    claims.heartbeat(ready=True, ttl_seconds=60, facts={})
    try:
        fleet.tick()
        replica.refresh_from_db()
        assert (replica.state, replica.desired) == ("ready", "resident")
    finally:
        claims.leave()


def test_act_never_puts_anybody_out(fleet: Fleet) -> None:
    foreseeing(fleet, "act")
    likely_version()
    Node.objects.update(max_replicas=1)
    fleet.age(9999)
    for _ in range(3):
        fleet.tick()
        fleet.now += EVERY_SECONDS
    assert fleet.replica.desired == Replica.Desired.RESIDENT
    assert not Prediction.objects.exists()


def test_act_is_remembered_by_the_next_controller(fleet: Fleet) -> None:
    foreseeing(fleet, "act")
    version = likely_version()
    fleet.tick()
    fleet.controller = fleet.new_controller()
    fleet.tick()
    assert Replica.objects.get(version=version).state == "starting"


def test_off_reads_and_writes_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    foreseeing(fleet, "off")
    likely_version()
    monkeypatch.setattr(prediction_module, "count_arrivals", None)
    _, _ = asked(fleet)
    fleet.tick()
    assert not Prediction.objects.exists()


def test_requests_make_a_prediction_a_hit(fleet: Fleet) -> None:
    foreseeing(fleet, "shadow")
    version = likely_version()
    fleet.tick()
    row = Prediction.objects.get()
    came(version, row.made_at + timedelta(seconds=30))
    fleet.controller._prediction._now = lambda: row.made_at + timedelta(minutes=1)
    fleet.tick()
    row.refresh_from_db()
    assert row.outcome == Outcome.PENDING  # it looks once a minute
    fleet.now += EVERY_SECONDS
    fleet.tick()
    row.refresh_from_db()
    assert row.outcome == Outcome.HIT
    assert row.wasted_byte_seconds == pytest.approx(30 * row.needed_bytes)


def test_requests_make_a_prediction_of_the_last_controller_a_hit(fleet: Fleet) -> None:
    foreseeing(fleet, "shadow")
    version = likely_version()
    made_at = timezone.now() - timedelta(minutes=10)
    row = Prediction.objects.create(
        version=version, made_at=made_at, until=made_at + timedelta(seconds=HORIZON_SECONDS),
        probability=0.9, needed_bytes=1000, acted_on=False,
    )  # fmt: skip
    fleet.tick()
    row.refresh_from_db()
    assert row.outcome == Outcome.HIT
    assert row.wasted_byte_seconds == pytest.approx(300_000, abs=100)


def test_nobody_asking_makes_a_prediction_waste(fleet: Fleet) -> None:
    foreseeing(fleet, "shadow")
    likely_version()
    fleet.tick()
    RequestRecord.objects.all().delete()
    fleet.controller._prediction._now = lambda: timezone.now() + timedelta(hours=1)
    fleet.now += EVERY_SECONDS
    fleet.tick()
    first = Prediction.objects.earliest("pk")
    assert first.outcome == Outcome.WASTE
    assert first.wasted_byte_seconds == first.needed_bytes * HORIZON_SECONDS


def test_a_request_that_nobody_foresaw_is_noted_once(fleet: Fleet) -> None:
    foreseeing(fleet, "shadow")
    version, _ = asked(fleet)
    fleet.tick()
    fleet.world.enqueued()
    fleet.tick()
    row = Prediction.objects.get()
    assert (row.version, row.outcome, row.until) == (version, Outcome.MISSED, row.made_at)
    assert row.needed_bytes > 1 << 20


def test_a_request_that_was_foreseen_is_not_noted_as_missed(fleet: Fleet) -> None:
    foreseeing(fleet, "shadow")
    version, _ = asked(fleet)
    now = timezone.now()
    Prediction.objects.create(
        version=version, made_at=now, until=now + timedelta(minutes=30), probability=0.9,
        needed_bytes=1, acted_on=False,
    )  # fmt: skip
    fleet.controller = fleet.new_controller()
    fleet.tick()
    assert Replica.objects.get(version=version).state == "starting"
    assert Prediction.objects.get().outcome == Outcome.PENDING


def test_neither_a_load_by_hand_nor_a_restart_counts_as_missed(fleet: Fleet) -> None:
    foreseeing(fleet, "shadow")
    version, _ = asked(fleet)
    desired.load(version, Node.objects.get())
    fleet.tick()
    assert Replica.objects.get(version=version).state == "starting"
    assert not Prediction.objects.exists()


def test_what_people_want_in_memory_does_not_count_as_missed(fleet: Fleet) -> None:
    foreseeing(fleet, "shadow")
    version = a_version(pinned=True)
    fleet.tick()
    assert Replica.objects.get(version=version).state == "starting"
    assert not Prediction.objects.exists()


def test_nothing_is_foreseen_while_somebody_waits_for_room(fleet: Fleet) -> None:
    foreseeing(fleet, "shadow")
    version, waiting = likely_version(), a_version(kv_cells=1 << 20)
    (place,) = placements_of(waiting, Node.objects.get(), {})
    # Room for it alone, and what serves has not been there for the minimum dwell.
    Node.objects.update(device_budgets={"cpu": place.needs["cpu"]})
    desired.load(waiting, Node.objects.get())
    fleet.tick()
    assert not Prediction.objects.exists()
    desired.unload(waiting)
    fleet.now += EVERY_SECONDS
    fleet.tick()
    assert Prediction.objects.get().version == version


def test_history_is_read_once_a_minute_and_each_request_once(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreseeing(fleet, "shadow")
    now = [timezone.now()]
    fleet.controller._prediction = prediction_module.DemandPrediction(
        fleet.world.settings, lambda: fleet.now, lambda: now[0]
    )
    spans: list[tuple[datetime, datetime]] = []

    def count(after: datetime, until: datetime, *_: object) -> list[object]:
        spans.append((after, until))
        return []

    monkeypatch.setattr(prediction_module, "count_arrivals", count)
    for _ in range(DAYS + 5):
        fleet.tick()
        fleet.tick()
        fleet.now += EVERY_SECONDS
        now[0] += timedelta(seconds=EVERY_SECONDS)
    spans.sort()
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    assert now[0] - spans[0][0] >= timedelta(days=DAYS)
    assert len(spans) == 2 * DAYS + 5
    assert spans[-1][1] > now[0] - timedelta(seconds=EVERY_SECONDS + 10)
