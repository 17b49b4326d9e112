"""References: counted, shared, kept, and what they want of memory."""

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from models_registry.catalogue.additions import add_version
from models_registry.catalogue.rollout import set_default
from models_registry.files import downloads
from models_registry.fleet.registrations import (
    RELEASED_KEPT,
    Registered,
    active_registrations,
    claims,
    count_references,
    find_registration,
    forget_released,
    note_use,
    register,
    release,
)
from models_registry.fleet.views import Demand, Wishes
from models_registry.models import Model, ModelVersion, Registration, Replica, Source
from models_registry.plan.facts import VersionView
from models_registry.rules.requirement import ModelRequirement, RequirementError
from tests.models_registry.fleet_rows import a_node, a_version, views
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db
MODELS_DIR = Path("/models")
_A_GPU = {"name": "cuda:0", "description": "", "memory_bytes": 1 << 40, "budget_bytes": 1 << 40}


@pytest.fixture
def version() -> ModelVersion:
    model = Model.objects.create(slug="all-minilm", name="MiniLM", type="embedding")
    return a_version("f16", model, is_default=True, embedding_dimensions=384, kv_cells=512)


def a_requirement(**fields: Any) -> ModelRequirement:
    values = {"model_type": "embedding", "name": "all-minilm"}
    return ModelRequirement(**(values | fields))


def registered(
    model_id: str = "search", requester: str = "module_a", actor: Any = None, **fields: Any
) -> Registered:
    return register(model_id, a_requirement(**fields), requester, MODELS_DIR, actor)


def view_of(version: ModelVersion, **demand: Any) -> VersionView | None:
    """The view of a version that the plan gets."""
    wishes = Wishes({version.key: Demand(**demand)}, claims=claims())
    return views(wishes, default_keep_alive_seconds=300.0).get(version.key)


def in_memory(version: ModelVersion, **fields: Any) -> Replica:
    values = {"state": Replica.State.READY, "on_demand": True}
    return Replica.objects.create(version=version, node=a_node(), **(values | fields))


def test_registration_counts_each_requester_once(version: ModelVersion) -> None:
    first = registered()
    assert (first.is_new, first.references) == (True, 1)
    assert first.registration.version == version
    again = registered()
    assert (again.is_new, again.references) == (False, 1)
    other = registered(requester="module_b")
    assert (other.is_new, other.references) == (True, 2)
    assert count_references(version) == 2


def test_release_counts_down_once(version: ModelVersion) -> None:
    first, second = registered().registration, registered(requester="module_b").registration
    assert release(first) == 1
    once = first.released_at
    assert release(first) == 1
    assert first.released_at == once
    assert release(second) == 0
    assert first.released_at is not None
    assert not active_registrations()


def test_registration_after_a_release_counts_again(version: ModelVersion) -> None:
    row = registered().registration
    release(row)
    again = registered(dimension=384)
    assert (again.is_new, again.references) == (True, 1)
    assert Registration.objects.get().requirement["dimension"] == 384


def test_equal_requirements_share_a_version_whatever_the_default_is(version: ModelVersion) -> None:
    registered()
    newer = a_version("q8", version.model, embedding_dimensions=384, kv_cells=512)
    set_default(newer)
    assert registered("index", "module_b").registration.version == version
    assert registered("index2", "module_b", batch_size=8).registration.version == newer


def test_a_name_stands_for_one_requirement(version: ModelVersion) -> None:
    registered(requester="module_a")
    with pytest.raises(RequirementError, match="module_a has registered 'search'") as refusal:
        registered(requester="module_b", batch_size=8)
    assert refusal.value.field == "model_id"
    # Who holds it alone may change their mind.
    assert registered(requester="module_a", batch_size=8).is_new
    assert count_references(version) == 1


@pytest.mark.parametrize("name", ["all-minilm", "all-minilm@f16", "someone/All-MiniLM"])
def test_name_is_an_id_a_version_or_a_repository(version: ModelVersion, name: str) -> None:
    assert registered(name=name).registration.version == version


def test_repository_is_found_by_its_source_first(version: ModelVersion) -> None:
    fetched = a_version(
        is_default=True, embedding_dimensions=4, kv_cells=512,
        model=Model.objects.create(slug="mine", name="Mine", type="embedding"),
    )  # fmt: skip
    Source.objects.create(version=fetched, url="hf://owner/all-minilm/model.gguf")
    assert registered(name="owner/all-minilm").registration.version == fetched


def test_unknown_name_says_what_to_do(version: ModelVersion) -> None:
    with pytest.raises(RequirementError, match="is not registered") as refusal:
        registered(name="owner/nothing")
    assert refusal.value.field == "name"
    assert not Registration.objects.exists()


def test_file_that_is_missing_is_fetched(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "async_task", lambda *_, **__: None)
    ModelVersion.objects.update(file_state=ModelVersion.FileState.ABSENT)
    with pytest.raises(RequirementError, match="has no source"):
        registered()
    assert not Registration.objects.exists()
    Source.objects.create(version=version, url="https://example.org/a.gguf")
    started = registered().download
    assert started is not None
    assert started.version == version


def test_file_that_failed_is_fetched_again_by_who_registered_before(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "async_task", lambda *_, **__: None)
    Source.objects.create(version=version, url="https://example.org/a.gguf")
    assert registered().download is None
    ModelVersion.objects.update(file_state=ModelVersion.FileState.FAILED)
    again = registered()
    assert (again.is_new, again.references) == (False, 1)
    assert again.download is not None
    assert registered().download == again.download


def test_use_is_noted_to_the_minute(version: ModelVersion) -> None:
    row = registered().registration
    note_use(row)
    first = find_registration(model_id="search")
    assert first is not None
    assert first.last_used_at is not None
    note_use(row)
    assert find_registration(model_id="search").last_used_at == first.last_used_at
    Registration.objects.update(last_used_at=timezone.now() - timedelta(minutes=2))
    note_use(row)
    used_again = find_registration(model_id="search")
    assert used_again is not None
    assert used_again.last_used_at is not None
    assert timezone.now() - used_again.last_used_at < timedelta(minutes=1)


def test_audit_trail_says_who_registered_and_released(version: ModelVersion) -> None:
    user = get_user_model().objects.create_user("ada")
    release(registered(actor=user).registration, user)
    entries = LogEntry.objects.get_for_model(Registration)
    assert [entry.actor for entry in entries] == [user, user]
    assert "released_at" in entries.first().changes


def test_nothing_registered_changes_nothing(version: ModelVersion) -> None:
    in_memory(version)
    assert claims() == {}
    assert view_of(version).keep_alive_seconds == float("inf")  # an embedding model


def test_preload_is_the_largest_that_is_asked_for(version: ModelVersion) -> None:
    a_node()
    registered("a", preload_workers=1)
    registered("b", preload_workers=3)
    assert view_of(version).registered_workers == 3
    release(find_registration(model_id="b"))
    assert view_of(version).registered_workers == 1


def test_registered_without_preload_waits_for_its_first_use(version: ModelVersion) -> None:
    a_node()
    registered()
    assert view_of(version) is None
    assert view_of(version, queued=1).registered_workers == 0


def test_registered_version_stays_whatever_requests_say(version: ModelVersion) -> None:
    ModelVersion.objects.update(keep_alive_seconds=5)
    in_memory(version)
    assert view_of(version).keep_alive_seconds == 5
    registered()
    assert view_of(version, keep_alive_seconds=0).keep_alive_seconds == float("inf")


def test_last_release_lets_it_go_once_it_is_idle(version: ModelVersion) -> None:
    first, second = registered().registration, registered("b").registration
    in_memory(version)
    release(first)
    assert view_of(version).keep_alive_seconds == float("inf")
    release(second)
    assert view_of(version).keep_alive_seconds == 0
    # A request that still ran at the release changes nothing.
    assert view_of(version, idle_seconds=0.0).keep_alive_seconds == 0


def test_release_lets_go_what_was_still_loading_unless_somebody_asks(version: ModelVersion) -> None:
    row = registered(preload_workers=1).registration
    replica = in_memory(version, state=Replica.State.LOADING)
    release(row)
    Replica.objects.update(
        state=Replica.State.READY, state_since=timezone.now() + timedelta(seconds=5)
    )
    assert view_of(version, idle_seconds=60.0).keep_alive_seconds == 0
    assert view_of(version, idle_seconds=0.0).keep_alive_seconds == float("inf")
    replica.refresh_from_db()


def test_release_is_noted_by_the_clock_of_the_database(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = registered().registration
    actual = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: actual - timedelta(hours=1))
    release(row)
    row.refresh_from_db()
    assert row.released_at is not None
    assert row.released_at >= actual


def test_release_leaves_what_a_person_loaded(version: ModelVersion) -> None:
    row = registered().registration
    in_memory(version, on_demand=False)
    release(row)
    assert view_of(version).keep_alive_seconds == float("inf")


def test_use_long_after_a_release_is_like_any_other(version: ModelVersion) -> None:
    release(registered().registration)
    Registration.objects.update(released_at=timezone.now() - timedelta(hours=1))
    in_memory(version)
    assert view_of(version, idle_seconds=1.0).keep_alive_seconds == float("inf")


def test_wished_device_goes_first_where_a_node_has_it(version: ModelVersion) -> None:
    plain, fast = a_node(), a_node()
    fast.devices += [_A_GPU]
    fast.save()
    registered(device="cuda", preload_workers=1)
    assert view_of(version).placements[0].node == fast.name
    release(find_registration(model_id="search"))
    registered("small", device="cpu", preload_workers=1)
    assert {place.device for place in view_of(version).placements} == {"cpu"}
    release(find_registration(model_id="small"))
    registered("other", device="rocm:3", preload_workers=1)
    devices = {place.node: place.device for place in view_of(version).placements}
    assert devices == {plain.name: "auto", fast.name: "auto"}


def test_device_that_a_person_chose_is_kept(version: ModelVersion) -> None:
    node = a_node()
    node.devices += [_A_GPU]
    node.save()
    registered(device="cuda:0", preload_workers=1)
    assert {place.device for place in view_of(version).placements} == {"cuda:0"}
    ModelVersion.objects.update(device="cpu")
    assert {place.device for place in view_of(version).placements} == {"cpu"}


def test_registrations_of_one_name_take_turns(version: ModelVersion) -> None:
    with CaptureQueriesContext(connection) as captured:
        registered()
    first = next(query["sql"] for query in captured if "SAVEPOINT" not in query["sql"])
    assert first.startswith("SELECT pg_advisory_xact_lock")


def test_type_that_only_the_file_can_tell_is_believed(
    version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "async_task", lambda *_, **__: None)
    added = add_version("new", "v1", "https://example.org/new.gguf")
    assert registered(name="new").registration.version == added
    seeded = add_version("known", "v1", "https://example.org/known.gguf")
    seeded.model.capabilities = ["chat"]
    seeded.model.save()
    with pytest.raises(RequirementError, match="of type text_generation, not embedding"):
        registered(name="known", model_id="other")


def test_asking_again_for_what_has_turned_out_otherwise_is_refused(version: ModelVersion) -> None:
    registered(dimension=384)
    ModelVersion.objects.update(embedding_dimensions=4)
    with pytest.raises(RequirementError, match="gives 4 dimensions, not 384"):
        registered(dimension=384)


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b"])
def test_names_that_cannot_be_kept_are_refused(version: ModelVersion, name: str) -> None:
    with pytest.raises(RequirementError, match="1 to 200 characters") as refusal:
        registered(model_id=name)
    assert refusal.value.field == "model_id"
    with pytest.raises(RequirementError, match="1 to 200 characters") as refusal:
        registered(requester=name)
    assert refusal.value.field == "requester_module_id"
    assert find_registration(model_id=name) is None


def test_claims_do_not_read_what_was_released(version: ModelVersion) -> None:
    for number in range(5):
        release(registered(f"name {number}").registration)
    last = Registration.objects.order_by("released_at").last()
    assert last is not None
    with CaptureQueriesContext(connection) as queries:
        found = claims()
    assert found[version.pk].released_at == last.released_at
    rows = [query["sql"] for query in queries if "registration" in query["sql"]]
    assert len(rows) == 2
    assert all('"released_at" IS' in sql for sql in rows)
    kept = registered("kept").registration
    assert claims()[kept.version_id].references == 1


def test_released_registrations_are_forgotten_after_a_while(version: ModelVersion) -> None:
    for name in ("old", "young", "last"):
        registered(name)
    for row in (find_registration(model_id="old"), find_registration(model_id="young")):
        assert row is not None
        release(row)
    long_ago = timezone.now() - RELEASED_KEPT - timedelta(seconds=1)
    Registration.objects.filter(model_id="old").update(released_at=long_ago)
    replica = in_memory(version)
    last = find_registration(model_id="last")
    assert last is not None
    release(last)
    forget_released()
    assert Registration.objects.filter(model_id="old").exists()
    replica.delete()
    forget_released()
    left = Registration.objects.values_list("model_id", flat=True)
    assert set(left) == {"young", "last"}


@pytest.mark.django_db(transaction=True)
def test_equal_requirements_under_different_names_wait_for_each_other(
    version: ModelVersion,
) -> None:
    """While one is being registered the default moves: the other gets the same version."""
    newer = a_version("q8", version.model, embedding_dimensions=384, kv_cells=512)
    done: list[Registered] = []

    def second() -> None:
        try:
            done.append(registered("index", "module_b"))
        finally:
            connection.close()

    thread = threading.Thread(target=second)
    with transaction.atomic():
        first = registered("search", "module_a")
        with connection.cursor() as cursor:
            thread.start()
            wait_until(lambda: _waits_for_a_lock(cursor))
        set_default(newer)
    thread.join(10)
    assert [one.registration.version for one in (first, *done)] == [version, version]


def _waits_for_a_lock(cursor: Any) -> bool:
    cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return bool(cursor.fetchone()[0])
