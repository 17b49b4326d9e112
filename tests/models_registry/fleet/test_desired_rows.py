"""Wishes and observations in the registry."""

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from models_registry.errors import RegistryError
from models_registry.fleet import desired, observed
from models_registry.fleet.nodes import register_this_node
from models_registry.models import Model, Replica
from tests.models_registry.fleet_rows import a_node, a_version

pytestmark = pytest.mark.django_db
State = Replica.State


def test_load_wants_a_replica_once() -> None:
    version, node = a_version(), a_node()
    first = desired.load(version, node)
    assert (first.desired, first.state) == ("resident", "stopped")
    assert desired.load(version, node) == first
    assert Replica.objects.count() == 1


def test_load_of_what_is_wanted_there_brings_no_second_copy() -> None:
    version, node = a_version(), a_node()
    left = Replica.objects.create(version=version, node=node, desired="absent")
    serving = Replica.objects.create(version=version, node=node, state="ready", on_demand=True)
    assert desired.load(version, node) == serving
    left.refresh_from_db()
    assert left.desired == "absent"


def test_load_of_what_can_never_fit_says_by_how_much() -> None:
    node = a_node(budget_bytes=1 << 20)
    with pytest.raises(RegistryError, match=r"needs .* MiB of cpu memory, but .* may use 1.0 MiB"):
        desired.load(a_version(), node)
    assert Replica.objects.count() == 0


def test_load_of_a_file_that_was_not_read_yet_is_tried() -> None:
    desired.load(a_version(header=None), a_node(budget_bytes=1))
    assert Replica.objects.count() == 1


def test_load_by_a_person_takes_over_what_requests_brought() -> None:
    version, node = a_version(), a_node()
    Replica.objects.create(version=version, node=node, on_demand=True)
    assert not desired.load(version, node).on_demand


def test_load_gives_a_replica_that_failed_a_fresh_chance() -> None:
    version, node = a_version(), a_node()
    replica = desired.load(version, node)
    long_ago = timezone.now() - timedelta(hours=1)
    Replica.objects.update(state=State.FAILED, crashes=5, reason="no memory", state_since=long_ago)
    desired.load(version, node)
    replica.refresh_from_db()
    assert (replica.state, replica.crashes, replica.reason) == ("stopped", 0, "")
    assert replica.state_since > long_ago


def test_load_and_unload_clear_what_failed_elsewhere() -> None:
    version = a_version()
    failed = desired.load(version, a_node())
    for clear in (lambda: desired.load(version, a_node()), lambda: desired.unload(version)):
        Replica.objects.filter(pk=failed.pk).update(
            desired="absent", state=State.FAILED, crashes=3, reason="It died.", load_failed=True
        )
        clear()
        failed.refresh_from_db()
        assert (failed.desired, failed.state, failed.reason) == ("absent", "stopped", "")
        assert (failed.load_failed, failed.crashes) == (False, 0)


def test_clearing_leaves_since_when_a_process_was_to_end() -> None:
    version = a_version()
    failed = desired.load(version, a_node())
    long_ago = timezone.now() - timedelta(hours=1)
    Replica.objects.update(desired="absent", state=State.FAILED, state_since=long_ago)
    desired.load(version, a_node())
    desired.unload(version)
    failed.refresh_from_db()
    assert (failed.state, failed.state_since) == ("stopped", long_ago)


@pytest.mark.parametrize("state", [State.STARTING, State.LOADING, State.READY, State.DRAINING])
def test_load_leaves_a_running_replica_as_it_is(state: str) -> None:
    version, node = a_version(), a_node()
    replica = desired.load(version, node)
    desired.unload(version)
    Replica.objects.update(state=state, crashes=1)
    desired.load(version, node)
    replica.refresh_from_db()
    assert (replica.desired, replica.state, replica.crashes) == ("resident", state, 1)


def test_unload_counts_what_was_wanted_on_all_nodes() -> None:
    version, other = a_version(), a_version()
    for node in (a_node(), a_node()):
        desired.load(version, node)
        desired.load(other, node)
    assert desired.unload(version) == 2
    assert desired.unload(version) == 0
    assert Replica.objects.filter(desired="resident").count() == 2


def _starting() -> Replica:
    replica = desired.load(a_version(), a_node())
    replica.launch_id, replica.state = uuid.uuid4(), State.STARTING
    replica.save()
    return replica


def test_begin_launch_is_taken_up_once() -> None:
    replica = _starting()
    assert replica.launch_id is not None
    taken = observed.begin_launch(replica.pk, replica.launch_id, 77)
    assert taken is not None
    assert (taken.state, taken.process_id) == ("loading", 77)
    assert observed.begin_launch(replica.pk, replica.launch_id, 78) is None


@pytest.mark.parametrize("state", [s for s in State.values if s != "starting"])
def test_begin_launch_of_one_no_longer_wanted_is_out_of_date(state: str) -> None:
    replica = _starting()
    assert replica.launch_id is not None
    Replica.objects.update(state=state)
    assert observed.begin_launch(replica.pk, replica.launch_id, 77) is None


def test_begin_launch_of_an_older_launch_is_out_of_date() -> None:
    replica = _starting()
    assert observed.begin_launch(replica.pk, uuid.uuid4(), 77) is None
    assert replica.launch_id is not None
    assert observed.begin_launch(replica.pk + 1, replica.launch_id, 77) is None


def test_observe_records_for_the_newest_launch_alone() -> None:
    replica = _starting()
    assert replica.launch_id is not None
    assert observed.observe(replica.launch_id, State.READY, load_fraction=1.0)
    assert not observed.observe(uuid.uuid4(), State.STOPPED)
    replica.refresh_from_db()
    assert (replica.state, replica.load_fraction) == ("ready", 1.0)


def test_register_this_node_keeps_one_row() -> None:
    first = register_this_node("here", 2)
    second = register_this_node("here", 3)
    assert (second.pk, second.max_replicas) == (first.pk, 3)
    assert second.memory_bytes
    assert second.memory_bytes > 1 << 20


def test_a_model_takes_its_versions_and_replicas_with_it() -> None:
    version = a_version()
    desired.load(version, a_node())
    Model.objects.all().delete()
    assert not Replica.objects.exists()


@pytest.mark.parametrize("fields", [{"pinned": True}, {"preload_workers": 1}])
def test_unload_of_what_would_come_back_is_refused(fields: dict[str, int]) -> None:
    version = a_version(**fields)
    first = desired.load(version, a_node())
    with pytest.raises(RegistryError, match="would be loaded again at once"):
        desired.unload(version)
    second = desired.load(version, a_node())
    assert desired.unload_replicas([second]) == 1  # one is enough
    with pytest.raises(RegistryError, match="would be loaded again at once"):
        desired.unload_replicas([first])
    assert Replica.objects.filter(desired="resident").get() == first


def test_unload_that_is_refused_leaves_what_failed_to_be_seen() -> None:
    version = a_version(pinned=True)
    failed = desired.load(version, a_node())
    Replica.objects.update(desired="absent", state=State.FAILED, crashes=3, reason="It died.")
    Replica.objects.create(version=version, node=failed.node)
    with pytest.raises(RegistryError, match="is pinned"):
        desired.unload(version)
    failed.refresh_from_db()
    assert (failed.state, failed.crashes, failed.reason) == ("failed", 3, "It died.")


def test_unload_of_what_the_settings_preload_is_refused(
    settings: Any,
) -> None:
    version = a_version()
    desired.load(version, a_node())
    settings.INFERENCE = replace(settings.INFERENCE, preload_models=(version.key,))
    with pytest.raises(RegistryError, match="INFERENCE_PRELOAD_MODELS"):
        desired.unload(version)
    settings.INFERENCE = replace(settings.INFERENCE, preload_models=("nobody",))
    assert desired.unload(version) == 1
