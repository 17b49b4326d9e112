"""Entries of the audit trail."""

import uuid
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from auditlog.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from models_registry.audit import TRACKED, acting
from models_registry.catalogue import rollout
from models_registry.files.download_run import run_download
from models_registry.files.downloads import cancel_download, claim_download, start_download
from models_registry.fleet import desired, observed
from models_registry.fleet.nodes import register_this_node
from models_registry.models import Model, Node, Price, Registration, Replica
from tests.models_registry.fleet_rows import a_node, a_version
from tests.models_registry.gguf_samples import write_llama

pytestmark = pytest.mark.django_db


@pytest.fixture
def keeper() -> Any:
    return get_user_model().objects.create_superuser("keeper", password="long enough")


def _entries(row: Any) -> list[LogEntry]:
    """Newest first."""
    return list(LogEntry.objects.get_for_object(row).order_by("-id"))


def test_trail_has_old_and_new_value_and_actor(keeper: Any) -> None:
    model = a_version().model
    with acting(keeper):
        model.name = "Renamed"
        model.save()
    entry = _entries(model)[0]
    assert entry.actor == keeper
    assert entry.changes["name"][1] == "Renamed"
    assert entry.action == LogEntry.Action.UPDATE
    assert entry.additional_data["program"]


def test_trail_without_a_user_has_no_actor() -> None:
    for actor in (None, AnonymousUser()):
        with acting(actor):
            model = a_version().model
        assert _entries(model)[0].actor is None


def test_actors_nest_and_end(keeper: Any) -> None:
    other = get_user_model().objects.create_user("other")
    with acting(keeper):
        with acting(other):
            inner = a_version()
        with acting(None):
            outer = a_version()
    after = a_version()
    assert [_entries(row)[0].actor for row in (inner, outer, after)] == [other, keeper, None]


def test_services_note_for_whom_they_act(keeper: Any) -> None:
    first = a_version("a", is_default=True)
    second = a_version("b", model=first.model)
    rollout.set_default(second, actor=keeper)
    assert _entries(first)[0].changes == {"is_default": ["True", "False"]}
    assert _entries(second)[0].actor == keeper
    rollout.roll_back(first.model, actor=keeper)
    rollout.set_canary(second, 5, actor=keeper)
    rollout.deprecate(second, "old", actor=keeper)
    rollout.undo_deprecation(second, actor=keeper)
    assert {entry.actor for entry in _entries(second)[:4]} == {keeper}
    replica = desired.load(second, a_node(), actor=keeper)
    desired.unload(second, actor=keeper)
    wishes = [(entry.actor, entry.changes["desired"]) for entry in _entries(replica)]
    assert wishes == [(keeper, ["resident", "absent"]), (keeper, ["None", "resident"])]


def test_downloads_note_who_started_and_who_stopped_them(keeper: Any, tmp_path: Path) -> None:
    other = get_user_model().objects.create_user("other")
    download = start_download(a_version(), keeper)
    assert claim_download(timezone.now()) == download
    cancel_download(download, other)
    stopped, started = _entries(download)
    assert (started.actor, started.action) == (keeper, LogEntry.Action.CREATE)
    assert (stopped.actor, list(stopped.changes)) == (other, ["cancelled_by"])


def test_what_a_download_pins_has_the_user_who_started_it(keeper: Any, tmp_path: Path) -> None:
    version = a_version(file_state="absent", header=None)
    version.sources.create(url=write_llama(tmp_path / "here.gguf").as_uri())
    start_download(version, keeper)
    download = claim_download(timezone.now())
    assert download is not None
    run_download(download, tmp_path / "models")
    pinned = _entries(version)[0]
    assert pinned.actor == keeper
    assert {"sha256", "size_bytes", "chat_template"} <= pinned.changes.keys()
    assert _entries(version.model)[0].actor == keeper


def test_what_hosts_observe_is_not_in_the_trail() -> None:
    replica = desired.load(a_version(), a_node())
    before = LogEntry.objects.count()
    replica.launch_id, replica.state = uuid.uuid4(), Replica.State.STARTING
    replica.save()
    observed.begin_launch(replica.pk, replica.launch_id, 7)
    observed.observe(replica.launch_id, Replica.State.READY, resident_bytes=1)
    register_this_node(replica.node.name, replica.node.max_replicas)
    assert LogEntry.objects.count() == before


def test_seeding_is_in_the_trail_and_a_second_one_is_not() -> None:
    call_command("seed_registry", verbosity=0)
    seeded = {entry.content_type.model_class() for entry in LogEntry.objects.all()}
    assert seeded == set(TRACKED) - {Registration, Replica, Node, Price}
    before = LogEntry.objects.count()
    call_command("seed_registry", verbosity=0)
    assert LogEntry.objects.count() == before


def test_deleted_rows_are_in_the_trail() -> None:
    version = a_version()
    desired.load(version, a_node())
    Model.objects.all().delete()
    deleted = LogEntry.objects.filter(action=LogEntry.Action.DELETE)
    assert sorted(entry.content_type.model for entry in deleted) == [
        *("model", "modelversion", "replica")
    ]
    assert version.key in {entry.object_repr for entry in deleted}


def _form(page: Any) -> dict[str, Any]:
    form = page.context["adminform"].form
    data = {name: form[name].value() for name in form.fields}
    for formset in page.context["inline_admin_formsets"]:
        prefix = formset.formset.prefix
        data |= {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}
    return {name: one for name, one in data.items() if one is not None and one is not False}


def test_edit_in_the_admin_has_its_user(keeper: Any) -> None:
    client = Client()
    client.force_login(keeper)
    version = a_version()
    url = reverse("admin:models_registry_modelversion_change", args=[version.pk])
    assert client.post(url, _form(client.get(url)) | {"kv_cells": "512"}).status_code == 302
    entry = _entries(version)[0]
    assert (entry.actor, list(entry.changes)) == (keeper, ["kv_cells"])


def test_edit_in_the_admin_of_an_async_server_has_its_user(keeper: Any) -> None:
    client = AsyncClient()
    client.force_login(keeper)
    model = Model.objects.create(slug="m", name="M")
    url = reverse("admin:models_registry_model_change", args=[model.pk])
    data = {"name": "New", "type": "text_generation", "versions-TOTAL_FORMS": "0"}
    data |= {"versions-INITIAL_FORMS": "0", "capabilities": "", "languages": "", "roles": ""}
    data |= {"fallbacks-TOTAL_FORMS": "0", "fallbacks-INITIAL_FORMS": "0"}
    # In this thread, so that it sees this test's transaction.
    assert async_to_sync(client.post)(url, data).status_code == 302
    entry = _entries(model)[0]
    assert (entry.actor, entry.changes) == (keeper, {"name": ["M", "New"]})
