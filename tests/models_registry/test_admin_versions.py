"""A version's page in the admin: its options, and what is refused there."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from models_registry.models import ModelVersion
from tests.models_registry.fleet_rows import a_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("keeper", password="long enough"))
    return client


def _save(admin: Client, version: ModelVersion, **options: str) -> str:
    """Post the page as it stands, but for ``options``; returns the page that follows."""
    url = reverse("admin:models_registry_modelversion_change", args=[version.pk])
    form = admin.get(url).context["adminform"].form
    data = {name: form[name].value() for name in form.fields} | options
    for prefix in ("sources", "replicas"):
        data |= {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}
    sent = {name: value for name, value in data.items() if value not in (None, False)}
    return admin.post(url, sent, follow=True).content.decode()


def test_options_are_saved_from_the_version_page(admin: Client) -> None:
    version = a_version()
    _save(admin, version, device="cuda:1", cache_type_v="q8_0", threads="3", gpu_layers="12")
    version.refresh_from_db()
    assert (version.device, version.cache_type_v) == ("cuda:1", "q8_0")
    assert (version.threads, version.gpu_layers) == (3, 12)


def test_options_that_contradict_each_other_are_refused_on_the_page(admin: Client) -> None:
    version = a_version()
    page = _save(admin, version, flash_attention="off", cache_type_v="q4_0")
    assert re.search(r"Values in q4_0 need flash attention", page)
    version.refresh_from_db()
    assert version.cache_type_v == "f16"


def test_new_version_can_be_added_by_hand(admin: Client) -> None:
    page = admin.get(reverse("admin:models_registry_modelversion_add"))
    assert page.status_code == 200
    assert {"model", "label", "file_name", "device"} <= set(page.context["adminform"].form.fields)
