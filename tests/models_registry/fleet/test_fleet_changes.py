"""Decisions of the plan, written into the fleet's rows."""

import uuid
from datetime import timedelta

import pytest
from auditlog.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from models_registry.fleet import changes as fleet_changes
from models_registry.fleet import desired, observed
from models_registry.fleet.footprints import estimate_of, footprints_of, options_of
from models_registry.models import Footprint, ModelVersion, Replica
from models_registry.plan.plan import Start
from tests.models_registry.fleet_rows import a_node, a_version

pytestmark = pytest.mark.django_db
MIB = 1 << 20


def measure(replica: Replica, private_bytes: int) -> None:
    """Measure as the controller does."""
    footprints = footprints_of([replica.version_id])
    fleet_changes.measure(replica, private_bytes, footprints)


def test_a_row_is_found_for_a_start() -> None:
    version, node = a_version(), a_node()
    start = Start(version.key, node.name, "auto", {"cpu": 1}, None, on_demand=True)
    first = fleet_changes.row_for(start)
    assert first is not None
    assert (first.desired, first.on_demand) == ("resident", True)
    second = fleet_changes.row_for(start)
    assert second is not None
    assert second.pk != first.pk  # the first is taken
    assert fleet_changes.retire(first, "Put out.")
    assert fleet_changes.row_for(start) == first
    desired.unload(version)
    explicit = desired.load(version, node)
    again = fleet_changes.row_for(
        Start(version.key, node.name, "auto", {}, explicit.pk, on_demand=True)
    )
    assert again is not None
    assert not again.on_demand


def test_what_the_plan_takes_back_from_a_person_is_in_the_audit_trail() -> None:
    replica = desired.load(a_version(), a_node())
    assert fleet_changes.retire(replica, "Put out.")
    change = LogEntry.objects.get_for_object(replica).first()
    assert change is not None
    assert change.changes == {"desired": ["resident", "absent"]}
    replica.refresh_from_db()
    assert (replica.desired, replica.reason) == ("absent", "Put out.")
    assert fleet_changes.retire(replica, "")
    replica.refresh_from_db()
    assert replica.reason == "Put out."
    assert LogEntry.objects.get_for_object(replica).count() == 2  # with its creation


def test_what_a_person_loads_meanwhile_is_not_put_out() -> None:
    version, node = a_version(), a_node()
    replica = Replica.objects.create(version=version, node=node, on_demand=True, state="ready")
    seen = Replica.objects.get(pk=replica.pk)
    desired.load(version, node)
    entries = LogEntry.objects.count()
    assert not fleet_changes.retire(seen, "Put out.")
    replica.refresh_from_db()
    assert (replica.desired, replica.reason) == ("resident", "")
    assert LogEntry.objects.count() == entries
    # What the host has moved on to is another matter as well.
    seen = Replica.objects.get(pk=replica.pk)
    for changes in ({"state": "draining"}, {"launch_id": uuid.uuid4()}, {"desired": "absent"}):
        Replica.objects.filter(pk=replica.pk).update(**changes)
        assert not fleet_changes.retire(seen, "Put out.")
        seen.refresh_from_db()
    replica.delete()
    assert not fleet_changes.retire(seen, "Put out.")


def test_what_the_plan_brings_in_for_a_setting_is_in_the_audit_trail() -> None:
    replica = desired.load(a_version(), a_node())
    desired.unload(replica.version)
    start = Start(replica.version.key, replica.node.name, "auto", {}, None, on_demand=False)
    assert fleet_changes.row_for(start) == replica
    change = LogEntry.objects.get_for_object(replica).first()
    assert change is not None
    assert change.changes == {"desired": ["absent", "resident"]}


def test_of_what_comes_and_goes_with_requests_only_its_row_is_in_the_audit_trail() -> None:
    version, node = a_version(), a_node()
    start = Start(version.key, node.name, "auto", {}, None, on_demand=True)
    for _ in range(2):
        replica = fleet_changes.row_for(start)
        assert replica is not None
        assert fleet_changes.retire(replica, "Put out.")
    (entry,) = LogEntry.objects.get_for_object(replica)
    assert entry.action == LogEntry.Action.CREATE


def test_a_replica_that_waits_says_why() -> None:
    replica = desired.load(a_version(), a_node())
    fleet_changes.explain([replica], {replica.version.key: "It needs 1 GiB."})
    replica.refresh_from_db()
    assert replica.reason == "It needs 1 GiB."
    fleet_changes.explain([replica], {})
    replica.refresh_from_db()
    assert replica.reason == ""


def test_what_a_replica_needs_follows_what_it_holds() -> None:
    version, node = a_version(), a_node()
    replica = desired.load(version, node)
    replica.resident_bytes, replica.needed_bytes = 50 * MIB, {"cpu": 1}
    replica.loaded_options = options_of(version, "auto", node.cpu_features)
    replica.save()
    measure(replica, 50 * MIB)
    replica.refresh_from_db()
    foreseen = estimate_of(version, ())
    assert foreseen is not None
    expected = 50 * MIB + foreseen.late_bytes
    assert replica.needed_bytes == {"cpu": expected + foreseen.mapped_bytes}
    assert Footprint.objects.get().private_bytes == expected
    measure(replica, 500 * MIB)  # it holds more than was thought
    replica.refresh_from_db()
    assert replica.needed_bytes == {"cpu": 500 * MIB + foreseen.mapped_bytes}
    assert Footprint.objects.get().private_bytes == 500 * MIB


def test_a_figure_that_stays_is_confirmed_once_an_hour() -> None:
    version, node = a_version(), a_node()
    replica = desired.load(version, node)
    replica.resident_bytes, replica.needed_bytes = 50 * MIB, {"cpu": 1}
    replica.loaded_options = options_of(version, "auto", node.cpu_features)
    replica.save()
    measure(replica, 500 * MIB)
    replica.refresh_from_db()
    for minutes, is_written in ((50, False), (70, True)):
        before = timezone.now() - timedelta(minutes=minutes)
        Footprint.objects.update(measured_at=before)
        measure(replica, 499 * MIB)
        row = Footprint.objects.get()
        assert row.private_bytes == 500 * MIB
        assert (row.measured_at > before) == is_written


def test_what_is_on_a_gpu_stays_as_foreseen() -> None:
    replica = desired.load(a_version(), a_node())
    replica.needed_bytes = {"cpu": 1, "cuda:0": 2}
    measure(replica, 500 * MIB)
    assert Footprint.objects.count() == 0


def test_a_row_whose_process_runs_is_left_alone() -> None:
    version, node = a_version(), a_node()
    resting = Replica.objects.create(version=version, node=node, desired="absent", state="failed")
    start = Start(version.key, node.name, "auto", {"cpu": 1}, None, on_demand=True)
    other = fleet_changes.row_for(start, holding=[resting.pk])
    assert other is not None
    assert other.pk != resting.pk


def test_a_row_that_is_gone_is_not_started() -> None:
    version, node = a_version(), a_node()
    for key, name, row in ((version.key, node.name, 1), ("no@v", node.name, None)):
        assert fleet_changes.row_for(Start(key, name, "auto", {}, row, on_demand=True)) is None
    assert (
        fleet_changes.row_for(Start(version.key, "none", "auto", {}, None, on_demand=True)) is None
    )


def test_what_was_loaded_with_other_options_is_not_measured() -> None:
    version, node = a_version(), a_node()
    replica = desired.load(version, node)
    replica.launch_id, replica.state, replica.needed_bytes = uuid.uuid4(), "starting", {"cpu": 1}
    replica.save()
    taken = observed.begin_launch(replica.pk, replica.launch_id, 1)
    assert taken is not None
    ModelVersion.objects.update(flash_attention="on")
    edited = Replica.objects.get(pk=replica.pk)
    measure(edited, 500 * MIB)
    assert Footprint.objects.count() == 0
    ModelVersion.objects.update(flash_attention=version.flash_attention)
    measure(Replica.objects.get(pk=replica.pk), 500 * MIB)
    assert Footprint.objects.get().options == taken.loaded_options


def test_a_replica_that_was_started_meanwhile_keeps_its_reason() -> None:
    seen = desired.load(a_version(), a_node())
    Replica.objects.update(state="starting", reason="")
    fleet_changes.explain([seen], {seen.version.key: "It needs 1 GiB."})
    assert Replica.objects.get().reason == ""


def test_deciding_locks_the_rows_of_replicas_alone() -> None:
    version, node = a_version(), a_node()
    start = Start(version.key, node.name, "auto", {"cpu": 1}, None, on_demand=True)
    with CaptureQueriesContext(connection) as queries:
        replica = fleet_changes.row_for(start)
        assert replica is not None
        assert fleet_changes.retire(replica, "Put out.")
    locking = [query["sql"] for query in queries if "FOR UPDATE" in query["sql"]]
    assert len(locking) == 2
    assert not any("JOIN" in sql for sql in locking)
