"""Permissions in the admin, group by group."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from models_registry.access import ADMINISTRATORS, LEVELS, OPERATE, OPERATORS, VIEWERS
from models_registry.models import Download, Model, ModelVersion, Replica, TaskRoute
from tests.models_registry.admin_users import client_of
from tests.models_registry.fleet_rows import a_node, a_version

pytestmark = pytest.mark.django_db

SEEN = (
    *("model", "modelversion", "preset", "taskroute", "roleassignment"),
    *("node", "replica", "download", "registration", "prediction"),
)
DIALOGS = (
    *("load", "unload", "download", "pin", "unpin", "make_default"),
    *("set_canary", "deprecate", "undo_deprecation"),
)
SENT = {"_form_submitted": "on"}


def _rows(table: str) -> str:
    return reverse(f"admin:models_registry_{table}_changelist")


def _page(row: object) -> str:
    return reverse(f"admin:models_registry_{row._meta.model_name}_change", args=[row.pk])


def _action(row: object, name: str) -> str:
    return reverse(f"admin:models_registry_{row._meta.model_name}_{name}", args=[row.pk])


@pytest.fixture
def viewer() -> Client:
    return client_of(VIEWERS)


@pytest.fixture
def operator() -> Client:
    return client_of(OPERATORS)


@pytest.fixture
def administrator() -> Client:
    return client_of(ADMINISTRATORS)


def test_groups_have_exactly_the_permissions_that_are_written_down() -> None:
    for level in LEVELS:
        found = Group.objects.get(name=level.group).permissions.values_list(
            "content_type__app_label", "codename"
        )
        wanted = {(app, name) for app, names in level.codenames.items() for name in names}
        assert set(found) == wanted


def test_no_group_may_give_permissions() -> None:
    escalating = Permission.objects.filter(
        content_type__app_label="auth", group__name__in=[level.group for level in LEVELS]
    )
    assert not escalating.exists()


def test_another_migration_brings_back_what_was_taken_and_keeps_what_was_added() -> None:
    group = Group.objects.get(name=VIEWERS)
    taken = group.permissions.get(codename="view_model")
    added = Permission.objects.get(codename="view_user")
    group.permissions.remove(taken)
    group.permissions.add(added)
    call_command("migrate", verbosity=0)
    assert {taken, added} <= set(group.permissions.all())


@pytest.mark.parametrize("group", [VIEWERS, OPERATORS, ADMINISTRATORS])
def test_every_group_sees_every_page(group: str) -> None:
    client = client_of(group)
    version = a_version()
    replica = Replica.objects.create(version=version, node=a_node())
    download = Download.objects.create(version=version)
    addresses = [
        reverse("admin:index"),
        reverse("admin_overview"),
        reverse("admin_overview_downloads"),
        reverse("admin:auditlog_logentry_changelist"),
        reverse("admin:metrics_requestrecord_changelist"),
        *(_rows(table) for table in SEEN),
        *(_page(row) for row in (version, version.model, replica, replica.node, download)),
    ]
    assert {address: client.get(address).status_code for address in addresses} == dict.fromkeys(
        addresses, 200
    )


def test_staff_of_no_group_lands_on_their_usage_and_sees_no_fleet() -> None:
    nobody = client_of("")
    landed = nobody.get(reverse("admin:index"), follow=True)
    assert landed.redirect_chain == [(reverse("usage_page"), 302)]
    assert landed.status_code == 200
    assert nobody.get(reverse("admin_overview")).status_code == 403
    assert nobody.get(_rows("model")).status_code == 403


@pytest.mark.parametrize("group", [VIEWERS, OPERATORS])
def test_keys_users_and_groups_are_hidden_from(group: str) -> None:
    client = client_of(group)
    tables = ("inference_apikey", "auth_user", "auth_group")
    assert [client.get(reverse(f"admin:{one}_changelist")).status_code for one in tables] == [
        403,
        403,
        403,
    ]
    sidebar = client.get(reverse("admin:index")).content
    assert b"API keys" not in sidebar


@pytest.mark.parametrize("name", [*DIALOGS, "try_prompt"])
def test_viewer_is_refused_every_action_on_a_version(viewer: Client, name: str) -> None:
    version = a_version()
    a_node()
    assert viewer.get(_action(version, name)).status_code == 403
    assert viewer.post(_action(version, name), SENT).status_code == 403
    assert not Replica.objects.exists()
    assert not Download.objects.exists()


def test_viewer_is_refused_actions_on_replicas_downloads_and_models(viewer: Client) -> None:
    version = a_version()
    replica = Replica.objects.create(version=version, node=a_node())
    download = Download.objects.create(version=version)
    for row, name in (
        *((replica, "load"), (replica, "unload"), (download, "cancel"), (download, "retry")),
        (version.model, "roll_back"),
    ):
        assert viewer.post(_action(row, name), SENT).status_code == 403
    replica.refresh_from_db()
    download.refresh_from_db()
    assert (replica.desired, download.state) == ("resident", "queued")


def test_viewer_is_offered_no_action(viewer: Client) -> None:
    version = a_version()
    page = viewer.get(_page(version)).content.decode()
    assert _action(version, "load") not in page
    assert 'name="_save"' not in page
    listed = viewer.get(_rows("modelversion")).content.decode()
    assert "load_selected" not in listed
    assert _action(version, "unload") not in listed


def test_viewer_cannot_act_on_selected_versions(viewer: Client) -> None:
    version = a_version()
    a_node()
    data = {"action": "load_selected", "_selected_action": [version.pk]}
    viewer.post(_rows("modelversion"), data)
    assert not Replica.objects.exists()


def test_operator_loads_pins_and_downloads(operator: Client) -> None:
    node, version = a_node(), a_version()
    operator.post(_action(version, "load"), {**SENT, "node": node.name})
    operator.post(_action(version, "pin"), SENT)
    operator.post(_action(version, "download"), SENT)
    version.refresh_from_db()
    assert version.replicas.get().node == node
    assert version.pinned
    assert version.downloads.get().requested_by.username == OPERATORS


def test_operator_cannot_edit(operator: Client) -> None:
    version = a_version()
    route = TaskRoute.objects.create(task_type="poem", role="primary")
    assert operator.post(_page(version), {"kv_cells": 512}).status_code == 403
    assert operator.post(_page(route), {"role": "fast"}).status_code == 403
    assert operator.get(reverse("admin:models_registry_model_add")).status_code == 403
    pull = reverse("admin:models_registry_model_pull")
    assert operator.post(pull, {**SENT, "url": "hf://a/b/c.gguf", "slug": "c"}).status_code == 403
    assert not Model.objects.filter(slug="c").exists()


def test_administrator_edits_adds_and_deletes(administrator: Client) -> None:
    route = TaskRoute.objects.create(task_type="poem", role="primary")
    administrator.post(_page(route), {"task_type": "poem", "role": "fast", "fallback_role": ""})
    route.refresh_from_db()
    assert route.role == "fast"
    delete = reverse("admin:models_registry_taskroute_delete", args=[route.pk])
    administrator.post(delete, {"post": "yes"})
    assert not TaskRoute.objects.filter(pk=route.pk).exists()


def test_administrator_pulls_a_model(administrator: Client) -> None:
    asked = {
        "url": "hf://owner/repository/tiny.gguf",
        "slug": "tiny",
        "label": "v1",
        "download": "on",
    }
    pull = reverse("admin:models_registry_model_pull")
    administrator.post(pull, SENT | asked)
    version = ModelVersion.objects.get(model__slug="tiny")
    assert version.sources.get().url == asked["url"]
    assert version.downloads.get().state == "queued"


def test_administrator_sees_keys_but_no_secret(administrator: Client) -> None:
    page = administrator.get(reverse("admin:inference_apikey_changelist"))
    assert page.status_code == 200
    assert administrator.get(reverse("admin:auth_user_changelist")).status_code == 403


@pytest.mark.parametrize("path", ["admin_overview", "admin_overview_downloads"])
def test_who_is_logged_out_is_sent_to_the_login(path: str) -> None:
    client = Client()
    answer = client.get(reverse(path))
    assert answer.status_code == 302
    assert answer.url.startswith("/admin/login/")
    refreshed = client.get(reverse(path), headers={"HX-Request": "true"})
    assert refreshed.headers["HX-Redirect"] == "/admin/login/"


def test_permission_to_operate_is_one_row() -> None:
    app, _, codename = OPERATE.partition(".")
    assert Permission.objects.get(content_type__app_label=app, codename=codename)
