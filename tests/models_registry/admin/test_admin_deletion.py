"""Deleting models, versions and nodes in the admin: what goes with them, and what keeps them."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from models_registry.access import ADMINISTRATORS, OPERATORS
from models_registry.fleet.predictions import note_missed
from models_registry.models import Download, ModelVersion, Prediction, Registration, Replica
from tests.models_registry.admin_users import client_of
from tests.models_registry.fleet_rows import a_node, a_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def keeper() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("keeper", password="long enough"))
    return client


def _a_used_version(state: str = "stopped") -> ModelVersion:
    """One with a download, a prediction, a replica and a registration that was released."""
    version = a_version()
    note_missed(version.key, timezone.now(), 0.0, 1)
    Download.objects.create(version=version, state="done")
    Replica.objects.create(version=version, node=a_node(), state=state)
    Registration.objects.create(
        model_id=version.key,
        requester="program",
        requirement={},
        version=version,
        released_at=timezone.now(),
    )
    return version


def _delete(client: Client, row: Any) -> str:
    """Confirm the deletion of a row; returns the page that follows."""
    url = reverse(f"admin:models_registry_{row._meta.model_name}_delete", args=[row.pk])
    return client.post(url, {"post": "yes"}, follow=True).content.decode()


def _exists(row: Any) -> bool:
    return type(row).objects.filter(pk=row.pk).exists()


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_rows_that_were_used_are_deleted_with_their_history(keeper: Client, state: str) -> None:
    version, other = _a_used_version(state), _a_used_version(state)
    rows = [version, other.model, *(one.replicas.get().node for one in (version, other))]
    for row in rows:
        _delete(keeper, row)
    assert [_exists(row) for row in rows] == [False] * 4
    assert not any(
        table.objects.exists() for table in (Download, Replica, Registration, Prediction)
    )


def test_administrator_deletes_a_version_that_was_used() -> None:
    version = _a_used_version()
    _delete(client_of(ADMINISTRATORS), version)
    assert not _exists(version)


@pytest.mark.parametrize("state", ["queued", "running"])
@pytest.mark.parametrize("is_model", [False, True])
def test_deletion_takes_a_download_that_goes_on_along(
    keeper: Client, state: str, is_model: bool
) -> None:
    version = a_version(file_state="fetching")
    download = Download.objects.create(version=version, state=state)
    row = version.model if is_model else version
    url = reverse(f"admin:models_registry_{row._meta.model_name}_delete", args=[row.pk])
    assert f"{version}: {state}" in keeper.get(url).content.decode()
    _delete(keeper, row)
    assert not _exists(row)
    assert not _exists(download)


def test_operator_deletes_nothing() -> None:
    version = _a_used_version()
    _delete(client_of(OPERATORS), version)
    assert _exists(version)


def test_what_is_in_memory_stays_and_the_page_says_why(keeper: Client) -> None:
    version = _a_used_version("ready")
    replica = version.replicas.get()
    for row in (version, version.model, replica.node):
        assert f"{replica} is ready: unload it first." in _delete(keeper, row)
        assert _exists(row)


def test_what_is_registered_stays_and_the_page_says_why(keeper: Client) -> None:
    version = _a_used_version()
    claim = version.registrations.get()
    Registration.objects.update(released_at=None)
    for row in (version, version.model):
        said = f"The registration {claim} is in use: release it first."
        assert said in _delete(keeper, row)
        assert _exists(row)


def test_selected_versions_are_deleted_unless_one_is_in_memory(keeper: Client) -> None:
    idle, loaded = _a_used_version(), _a_used_version("ready")
    url = reverse("admin:models_registry_modelversion_changelist")
    sent = {"action": "delete_selected", "post": "yes"}
    page = keeper.post(url, sent | {"_selected_action": [idle.pk, loaded.pk]}).content.decode()
    assert "unload it first" in page
    assert _exists(idle)
    keeper.post(url, sent | {"_selected_action": [idle.pk]})
    assert (_exists(idle), _exists(loaded)) == (False, True)
