"""Actions of the admin: what they do, and what they say when they cannot."""

import pytest
from django.test import Client
from django.urls import reverse

from models_registry.access import OPERATORS, VIEWERS
from models_registry.fleet.live_figures import LiveFigures
from models_registry.models import Download, ModelVersion, Registration, Replica
from tests.models_registry.admin_users import client_of
from tests.models_registry.conftest import Show
from tests.models_registry.fleet_rows import a_node, a_version

pytestmark = pytest.mark.django_db
SENT = {"_form_submitted": "on"}


@pytest.fixture
def operator() -> Client:
    return client_of(OPERATORS)


def _act(client: Client, row: object, name: str, **fields: object) -> list[str]:
    """Send an action's dialog; returns what the user is told."""
    url = reverse(f"admin:models_registry_{row._meta.model_name}_{name}", args=[row.pk])
    answer = client.post(url, SENT | fields, follow=True)
    assert answer.redirect_chain
    row.refresh_from_db()
    return [str(message) for message in answer.context["messages"]]


def test_dialog_is_shown_before_anything_happens(operator: Client) -> None:
    version = a_version()
    Replica.objects.create(version=version, node=a_node())
    url = reverse("admin:models_registry_modelversion_unload", args=[version.pk])
    assert b"Unload this version everywhere?" in operator.get(url).content
    assert version.replicas.get().desired == "resident"


def test_action_needs_the_token_of_a_form(operator: Client) -> None:
    version = a_version()
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    url = reverse("admin:models_registry_modelversion_pin", args=[version.pk])
    assert strict.post(url, SENT).status_code == 403


def test_load_marks_what_speaks_against_a_node(operator: Client, show: Show) -> None:
    version, awake, silent = a_version(), a_node(), a_node(budget_bytes=1000)
    show(LiveFigures(alive_nodes=frozenset({awake.name})))
    url = reverse("admin:models_registry_modelversion_load", args=[version.pk])
    page = operator.get(url).content.decode()
    assert f"{silent.name} (silent, too small)" in page
    assert f"{awake.name} (" not in page


def test_load_picks_a_node_where_none_is_chosen(operator: Client, show: Show) -> None:
    version, node = a_version(), a_node()
    show(LiveFigures(alive_nodes=frozenset({node.name})))
    assert _act(operator, version, "load", node="") == [f"{version} is being loaded on {node}."]


def test_load_without_a_file_says_what_to_do(operator: Client) -> None:
    version = a_version(file_state="absent")
    a_node()
    assert _act(operator, version, "load", node="") == [
        f"{version}: its file is absent. Download it first."
    ]


def test_load_that_cannot_fit_is_refused_with_numbers(operator: Client) -> None:
    version, node = a_version(), a_node(budget_bytes=1000)
    (told,) = _act(operator, version, "load", node=node.name)
    assert "cannot be loaded" in told
    assert f"{node.name} may use 1000 bytes" in told


def test_unload_wants_it_nowhere(operator: Client) -> None:
    version = a_version()
    Replica.objects.create(version=version, node=a_node())
    assert _act(operator, version, "unload") == [f"{version}: 1 replica(s) are being unloaded."]
    assert version.replicas.get().desired == "absent"


@pytest.mark.parametrize("fields", [{"pinned": True}, {"preload_workers": 1}])
def test_unload_of_what_would_come_back_at_once_is_refused(
    operator: Client, fields: dict[str, object]
) -> None:
    version = a_version(**fields)
    Replica.objects.create(version=version, node=a_node())
    (told,) = _act(operator, version, "unload")
    assert "it would be loaded again at once" in told
    assert version.replicas.get().desired == "resident"


def test_pin_and_unpin(operator: Client) -> None:
    version = a_version()
    _act(operator, version, "pin")
    assert version.pinned
    _act(operator, version, "unpin")
    assert not version.pinned


def test_default_moves_and_rolls_back(operator: Client) -> None:
    old = a_version("old", is_default=True)
    new = a_version("new", old.model)
    told = _act(operator, new, "make_default")
    assert told[0] == f"{new} is the default of {new.model}."
    assert "not in memory" in told[1]
    old.refresh_from_db()
    assert (new.is_default, old.is_default) == (True, False)
    assert _act(operator, new.model, "roll_back") == [f"{old} is the default of {old.model} again."]


@pytest.mark.parametrize(("name", "fields"), [("make_default", {}), ("set_canary", {"percent": 5})])
def test_version_without_its_file_is_not_rolled_out(
    operator: Client, name: str, fields: dict[str, object]
) -> None:
    old = a_version("old", is_default=True)
    new = a_version("new", old.model, file_state="absent")
    told = _act(operator, new, name, **fields)
    assert told == [f"The file of {new} is absent. Download it first."]
    assert (new.is_default, new.canary_percent) == (False, 0)


def _a_registration(version: ModelVersion) -> Registration:
    return Registration.objects.create(
        model_id="search", requester="program", requirement={}, version=version
    )


def test_registration_of_a_dead_program_is_released(operator: Client) -> None:
    row = _a_registration(a_version())
    url = reverse("admin:models_registry_registration_change", args=[row.pk])
    assert operator.get(url).context["actions_detail"]
    assert _act(operator, row, "release") == [
        f"{row} is released; 0 reference(s) to {row.version} are left."
    ]
    assert not row.is_active
    assert _act(operator, row, "release") == [f"{row} was released already."]
    assert not operator.get(url).context["actions_detail"]


def test_viewer_may_not_release(operator: Client) -> None:
    row = _a_registration(a_version())
    url = reverse("admin:models_registry_registration_release", args=[row.pk])
    assert client_of(VIEWERS).post(url, SENT).status_code == 403
    row.refresh_from_db()
    assert row.is_active


def test_rollback_without_an_earlier_default_is_refused(operator: Client) -> None:
    version = a_version(is_default=True)
    (told,) = _act(operator, version.model, "roll_back")
    assert "has had no other default version" in told


def test_deprecation_takes_a_note_and_can_be_taken_back(operator: Client) -> None:
    version = a_version()
    _act(operator, version, "deprecate", note="Use v2.")
    assert (version.is_deprecated, version.deprecation_note) == (True, "Use v2.")
    _act(operator, version, "undo_deprecation")
    assert not version.is_deprecated


def test_canary_share_is_set_or_refused_with_the_reason(operator: Client) -> None:
    default = a_version("old", is_default=True)
    canary = a_version("new", default.model)
    _act(operator, canary, "set_canary", percent=10)
    assert canary.canary_percent == 10
    (told,) = _act(operator, default, "set_canary", percent=10)
    assert "The default version gets the requests that canaries leave" in told


def test_download_is_cancelled_and_retried(operator: Client) -> None:
    version = a_version(file_state="absent")
    download = Download.objects.create(version=version)
    assert _act(operator, download, "cancel") == [f"The download of {version} is cancelled."]
    assert download.state == "cancelled"
    assert _act(operator, download, "cancel") == ["The download has ended already: cancelled."]
    _act(operator, download, "retry")
    assert version.downloads.filter(state="queued").count() == 1


def test_unload_of_a_replica_that_would_come_back_is_refused(operator: Client) -> None:
    replica = Replica.objects.create(version=a_version(pinned=True), node=a_node())
    (told,) = _act(operator, replica, "unload")
    assert "is pinned" in told
    assert replica.desired == "resident"


def test_replica_that_gave_up_is_loaded_afresh(operator: Client) -> None:
    replica = Replica.objects.create(version=a_version(), node=a_node())
    Replica.objects.filter(pk=replica.pk).update(state="failed", crashes=3, reason="It died.")
    assert _act(operator, replica, "load") == [f"{replica} is being loaded."]
    assert (replica.state, replica.crashes, replica.reason) == ("stopped", 0, "")


def test_actions_return_to_the_page_they_were_started_on(operator: Client) -> None:
    version = a_version()
    url = reverse("admin:models_registry_modelversion_pin", args=[version.pk])
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/admin/"}
    answer = operator.post(url, SENT, headers=headers)
    assert answer.headers["HX-Redirect"] == "http://testserver/admin/"
    headers["HX-Current-URL"] = "https://elsewhere.example/"
    answer = operator.post(url, SENT, headers=headers)
    assert answer.headers["HX-Redirect"].startswith("/admin/models_registry/")


def test_actions_are_in_the_audit_trail_of_the_row(operator: Client) -> None:
    version = a_version()
    _act(operator, version, "pin")
    page = operator.get(
        reverse("admin:models_registry_modelversion_history", args=[version.pk]), follow=True
    ).content.decode()
    assert "pinned: False → True" in page
    assert OPERATORS in page


def test_only_actions_that_change_something_are_offered(operator: Client) -> None:
    version, node = a_version(is_default=True), a_node()
    url = reverse("admin:models_registry_modelversion_change", args=[version.pk])

    def offered() -> set[str]:
        page = operator.get(url)
        shown = page.context["actions_detail"]
        inner = [item for one in shown for item in one.get("items", [one])]
        return {item["title"] for item in inner}

    assert offered() == {"Try a prompt", "Load", "Download", "Pin", "Deprecate"}
    Replica.objects.create(version=version, node=node)
    ModelVersion.objects.filter(pk=version.pk).update(pinned=True)
    assert offered() == {"Try a prompt", "Unload", "Download", "Unpin", "Deprecate"}
