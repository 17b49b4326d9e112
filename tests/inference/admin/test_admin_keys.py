"""API keys in the admin: what their maker may give them."""

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from inference.models import ApiKey, Team, every_scope, issue_key
from models_registry.access import ADMINISTRATORS
from tests.models_registry.admin_users import client_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def clerk() -> Client:
    """Makes keys, and may not operate."""
    client = client_of("")
    user = get_user_model().objects.get(username="nobody")
    names = ("add_apikey", "change_apikey", "view_apikey")
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    return client


def _sent(scopes: list[str]) -> dict[str, object]:
    user = get_user_model().objects.create_user("ada")
    dates = {"expires_at_0": "", "expires_at_1": ""}
    return {"user": user.pk, "team": "", "name": "k", "scopes": scopes} | dates


def test_key_gets_no_scope_that_its_maker_lacks(clerk: Client) -> None:
    page = clerk.post(reverse("admin:inference_apikey_add"), _sent(every_scope()))
    assert b"You may not give a key: models.operate." in page.content
    assert not ApiKey.objects.exists()


def test_administrator_gives_every_scope() -> None:
    client_of(ADMINISTRATORS).post(reverse("admin:inference_apikey_add"), _sent(every_scope()))
    assert ApiKey.objects.get().scopes == every_scope()


def test_key_that_has_more_keeps_it_when_it_is_renamed(clerk: Client) -> None:
    sent = _sent(every_scope())
    key, _ = issue_key(get_user_model().objects.get(username="ada"), "old", every_scope())
    clerk.post(reverse("admin:inference_apikey_change", args=[key.pk]), sent)
    key.refresh_from_db()
    assert (key.name, key.scopes) == ("k", every_scope())


def test_administrator_gives_a_key_to_a_team() -> None:
    team = Team.objects.create(slug="search", name="Search")
    client_of(ADMINISTRATORS).post(
        reverse("admin:inference_apikey_add"), _sent([]) | {"team": team.pk, "scopes": "inference"}
    )
    assert ApiKey.objects.get().team == team
