"""Wishes and observations in the registry."""

import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from models_registry import services
from models_registry.models import Model, ModelVersion, Replica
from models_registry.services import RegistryError
from tests.models_registry.fleet_rows import a_node, a_version
from tests.models_registry.gguf_samples import write_llama

pytestmark = pytest.mark.django_db
State = Replica.State


def test_load_wants_a_replica_once() -> None:
    version, node = a_version(), a_node()
    first = services.load(version, node)
    assert (first.desired, first.state) == ("resident", "stopped")
    assert services.load(version, node) == first
    assert Replica.objects.count() == 1


def test_load_on_a_full_node_says_what_to_do() -> None:
    node = a_node(max_replicas=1)
    loaded = a_version()
    services.load(loaded, node)
    with pytest.raises(RegistryError, match=r"1 of 1.*Unload one first"):
        services.load(a_version(), node)
    services.load(loaded, node)  # already has its place
    services.unload(loaded)
    other = a_version()
    services.load(other, node)
    with pytest.raises(RegistryError):
        services.load(loaded, node)


def test_load_gives_a_replica_that_failed_a_fresh_chance() -> None:
    version, node = a_version(), a_node()
    replica = services.load(version, node)
    long_ago = timezone.now() - timedelta(hours=1)
    Replica.objects.update(state=State.FAILED, crashes=5, reason="no memory", state_since=long_ago)
    services.load(version, node)
    replica.refresh_from_db()
    assert (replica.state, replica.crashes, replica.reason) == ("stopped", 0, "")
    assert replica.state_since > long_ago


@pytest.mark.parametrize("state", [State.STARTING, State.LOADING, State.READY, State.DRAINING])
def test_load_leaves_a_running_replica_as_it_is(state: str) -> None:
    version, node = a_version(), a_node()
    replica = services.load(version, node)
    services.unload(version)
    Replica.objects.update(state=state, crashes=1)
    services.load(version, node)
    replica.refresh_from_db()
    assert (replica.desired, replica.state, replica.crashes) == ("resident", state, 1)


def test_unload_counts_what_was_wanted_on_all_nodes() -> None:
    version, other = a_version(), a_version()
    for node in (a_node(), a_node()):
        services.load(version, node)
        services.load(other, node)
    assert services.unload(version) == 2
    assert services.unload(version) == 0
    assert Replica.objects.filter(desired="resident").count() == 2


def _starting() -> Replica:
    replica = services.load(a_version(), a_node())
    replica.launch_id, replica.state = uuid.uuid4(), State.STARTING
    replica.save()
    return replica


def test_begin_launch_is_taken_up_once() -> None:
    replica = _starting()
    assert replica.launch_id is not None
    taken = services.begin_launch(replica.pk, replica.launch_id, 77)
    assert taken is not None
    assert (taken.state, taken.process_id) == ("loading", 77)
    assert services.begin_launch(replica.pk, replica.launch_id, 78) is None


@pytest.mark.parametrize("state", [s for s in State.values if s != "starting"])
def test_begin_launch_of_one_no_longer_wanted_is_out_of_date(state: str) -> None:
    replica = _starting()
    assert replica.launch_id is not None
    Replica.objects.update(state=state)
    assert services.begin_launch(replica.pk, replica.launch_id, 77) is None


def test_begin_launch_of_an_older_launch_is_out_of_date() -> None:
    replica = _starting()
    assert services.begin_launch(replica.pk, uuid.uuid4(), 77) is None
    assert replica.launch_id is not None
    assert services.begin_launch(replica.pk + 1, replica.launch_id, 77) is None


def test_observe_records_for_the_newest_launch_alone() -> None:
    replica = _starting()
    assert replica.launch_id is not None
    assert services.observe(replica.launch_id, State.READY, load_fraction=1.0)
    assert not services.observe(uuid.uuid4(), State.STOPPED)
    replica.refresh_from_db()
    assert (replica.state, replica.load_fraction) == ("ready", 1.0)


def test_register_this_node_keeps_one_row() -> None:
    first = services.register_this_node("here", 2)
    second = services.register_this_node("here", 3)
    assert (second.pk, second.max_replicas) == (first.pk, 3)
    assert second.memory_bytes
    assert second.memory_bytes > 1 << 20


def test_set_default_leaves_one_default() -> None:
    first = a_version("a", is_default=True)
    second = a_version("b", model=first.model)
    services.set_default(second)
    services.set_default(second)
    assert list(first.model.versions.filter(is_default=True)) == [second]


def test_fetch_file_without_source_and_file_says_what_to_do(tmp_path: Path) -> None:
    version = a_version()
    with pytest.raises(RegistryError, match=r"no source, and .*a\.gguf does not exist"):
        services.fetch_file(version, tmp_path, lambda *_: None)


def test_fetch_file_takes_the_next_source_when_one_fails(tmp_path: Path) -> None:
    write_llama(tmp_path / "here.gguf")
    version = a_version(file_state=ModelVersion.FileState.ABSENT)
    version.sources.create(position=0, url=f"file://{tmp_path}/nowhere.gguf")
    version.sources.create(position=1, url=f"file://{tmp_path}/here.gguf")
    (tmp_path / "models").mkdir()
    services.fetch_file(version, tmp_path / "models", lambda *_: None)
    version.refresh_from_db()
    assert (version.file_state, version.file_error) == ("ready", "")
    assert (tmp_path / "models" / "a.gguf").is_file()


def test_fetch_file_that_fails_notes_why(tmp_path: Path) -> None:
    version = a_version(file_state=ModelVersion.FileState.ABSENT)
    version.sources.create(position=0, url=f"file://{tmp_path}/nowhere.gguf")
    with pytest.raises(Exception, match=r"nowhere\.gguf"):
        services.fetch_file(version, tmp_path, lambda *_: None)
    version.refresh_from_db()
    assert version.file_state == "failed"
    assert "nowhere.gguf" in version.file_error


def test_a_model_takes_its_versions_and_replicas_with_it() -> None:
    version = a_version()
    services.load(version, a_node())
    Model.objects.all().delete()
    assert not Replica.objects.exists()
