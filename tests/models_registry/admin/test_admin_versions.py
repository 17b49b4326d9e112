"""A version's page in the admin: its options, and what is refused there."""

import re

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from models_registry.models import Model, ModelVersion
from tests.models_registry.admin_pages import opened
from tests.models_registry.fleet_rows import a_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("keeper", password="long enough"))
    return client


def _save(admin: Client, version: ModelVersion, **options: str) -> str:
    """Send the page as it stands, but for ``options``; returns the page that follows."""
    url = reverse("admin:models_registry_modelversion_change", args=[version.pk])
    return admin.post(url, opened(admin, url) | options, follow=True).content.decode()


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


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("default_sampling", '{"tempreture": 1}', "unknown field `tempreture`"),
        ("default_sampling", '{"temperature": 3}', "&lt;= 2.0 - at `$.temperature`"),
        ("default_sampling", "[1]", "Expected `object`"),
        (
            "chat_template",
            "{% for message in messages %}",
            "valid Jinja template. Line 1: Unexpected",
        ),
        ("chat_template", "a\n{{ messages | shout }}", "Line 2: there is no filter"),
    ],
)
def test_prompts_that_would_fail_every_request_are_refused_on_the_page(
    admin: Client, field: str, value: str, reason: str
) -> None:
    version = a_version()
    before = getattr(version, field)
    assert reason in _save(admin, version, **{field: value})
    version.refresh_from_db()
    assert getattr(version, field) == before


def test_template_of_a_file_does_not_keep_other_options_from_being_changed(admin: Client) -> None:
    version = a_version(chat_template="{% odd %}")
    _save(admin, version, threads="3")
    version.refresh_from_db()
    assert version.threads == 3


def test_checksum_and_size_are_cleared_on_the_page(admin: Client) -> None:
    version = a_version(sha256="0" * 64, size_bytes=5)
    _save(admin, version, sha256="", size_bytes="")
    version.refresh_from_db()
    assert (version.sha256, version.size_bytes) == ("", None)


@pytest.mark.parametrize("edited", [{"file_name": "other.gguf"}, {"sha256": "1" * 64}])
def test_other_file_on_the_page_is_to_be_fetched_first(
    admin: Client, edited: dict[str, str]
) -> None:
    version = a_version(sha256="0" * 64, architecture="llama")
    _save(admin, version, **edited)
    version.refresh_from_db()
    assert (version.file_state, version.header, version.architecture) == ("absent", None, "")


@pytest.mark.parametrize(
    "file_name",
    ["../a.gguf", "/etc/a.gguf", "a/../../b.gguf", "a//b.gguf", "a/", ".", "./a", "a\x07.gguf"],
)
def test_file_name_that_is_not_below_the_models_directory_is_refused(
    admin: Client, file_name: str
) -> None:
    version = a_version()
    _save(admin, version, file_name=file_name)
    version.refresh_from_db()
    assert version.file_name == "a.gguf"


def test_file_of_another_version_is_refused(admin: Client) -> None:
    version, other = a_version(), a_version(file_name="taken.gguf")
    page = _save(admin, version, file_name="taken.gguf")
    assert f"This is the file of {other}." in page
    version.refresh_from_db()
    assert version.file_name == "a.gguf"


def test_label_is_validated_with_the_version() -> None:
    with pytest.raises(ValidationError, match="letters, digits"):
        a_version(label="../x").full_clean()


@pytest.mark.parametrize("slug", ["abc\n", "a b", "-a"])
def test_slug_is_closed(slug: str) -> None:
    with pytest.raises(ValidationError, match="lower-case letters"):
        Model(slug=slug, name="Test").full_clean()


def test_new_version_can_be_added_by_hand(admin: Client) -> None:
    page = admin.get(reverse("admin:models_registry_modelversion_add"))
    assert page.status_code == 200
    assert {"model", "label", "file_name", "device"} <= set(page.context["adminform"].form.fields)


def test_what_has_an_action_is_not_edited_on_the_page(admin: Client) -> None:
    version = a_version(is_default=True)
    _save(admin, version, canary_percent="5", is_deprecated="on", pinned="on", is_default="")
    version.refresh_from_db()
    assert (version.canary_percent, version.is_deprecated, version.pinned) == (0, False, False)
    assert version.is_default


def test_first_version_added_by_hand_is_the_default(admin: Client) -> None:
    url = reverse("admin:models_registry_modelversion_add")
    model = Model.objects.create(slug="m", name="M")
    for label in ("a", "b"):
        sent = opened(admin, url) | {"model": str(model.pk), "label": label, "file_name": label}
        assert admin.post(url, sent | {"is_default": "on"}).status_code == 302
    assert model.versions.get(is_default=True).label == "a"
    assert model.versions.count() == 2
