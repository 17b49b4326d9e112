"""Cached answers and comparisons in the admin."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from caching.models import CacheVerdict, SemanticEntry
from caching.semantic import verdicts
from tests.caching.entries import added, compared, patience

__all__ = ["patience"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("patience")]
ENTRIES = reverse("admin:caching_semanticentry_changelist")
VERDICTS = reverse("admin:caching_cacheverdict_changelist")


def rows(client: Client, page: str, **query: Any) -> list[Any]:
    answer = client.get(page, query)
    assert answer.status_code == 200
    return list(answer.context["cl"].result_list)


def act(client: Client, page: str, action: str, *chosen: Any) -> str:
    """Do an action to the chosen rows; return the page that follows."""
    form = {"action": action, "_selected_action": [row.pk for row in chosen]}
    return client.post(page, form, follow=True).content.decode()


def page_of(client: Client, row: Any) -> str:
    name = f"admin:caching_{row._meta.model_name}_change"
    answer = client.get(reverse(name, args=[row.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def staff(*permissions: str) -> Client:
    user = get_user_model().objects.create_user("ann", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def test_entries_show_the_most_hit_first_with_the_tokens_that_they_saved(
    admin_client: Client,
) -> None:
    few = added(prompt="May I park here?", hits=2, completion_tokens=11)
    many = added(
        prompt="How do I reset my password?",
        hits=200,
        completion_tokens=60,
        created_at=timezone.now() - timedelta(hours=3, minutes=5),
    )
    assert rows(admin_client, ENTRIES) == [many, few]
    assert rows(admin_client, ENTRIES, o="-6") == [many, few]
    assert rows(admin_client, ENTRIES, o="6") == [few, many]
    text = admin_client.get(ENTRIES).content.decode()
    for shown in ("How do I reset my password?", "12,000", "3\xa0hours", "m@v1"):
        assert shown in text


@pytest.mark.parametrize(
    "query",
    [
        {"q": "password"},
        {"q": "click the link"},
        {"q": "4711"},
        {"q": "alice"},
        {"q": "abcd1234"},
        {"version_key": "m@v2"},
        {"preset": "fast"},
        {"state__exact": "suspect"},
    ],
)
def test_entries_are_searched_and_filtered(admin_client: Client, query: dict[str, str]) -> None:
    added(prompt="Where is Paris?")
    found = added(
        prompt="How do I reset my password?",
        answer_text="Click the link.",
        user_id=4711,
        end_user="alice",
        key="abcd1234".ljust(64, "0"),
        version_key="m@v2",
        preset="fast",
        state="suspect",
    )
    assert rows(admin_client, ENTRIES, **query) == [found]


def test_entry_page_shows_prompt_answer_and_comparisons_that_nobody_edits(
    admin_client: Client,
) -> None:
    made = added(prompt="What is rain?", answer_text="It is <b>water</b>.")
    compared(made, "It is frozen water.", prompt="What's snow?")
    text = page_of(admin_client, made)
    for shown in ("What is rain?", "It is &lt;b&gt;water", "It is frozen water.", "snow?", "open"):
        assert shown in text
    assert 'name="prompt"' not in text
    assert 'name="verdicts-0-agrees"' not in text


def test_entries_are_forgotten_with_their_texts(admin_client: Client) -> None:
    first, second, kept = added(), added(), added()
    verdict = compared(first, "It snows.")
    text = act(admin_client, ENTRIES, "forget", first, second)
    assert "2 answer(s) forgotten." in text
    assert list(SemanticEntry.objects.all()) == [kept]
    verdict.refresh_from_db()
    assert (verdict.prompt, verdict.answer_text) == ("", "")
    assert "delete_selected" not in text


def test_comparisons_show_open_ones_first(admin_client: Client) -> None:
    agreeing = compared(added(), "It rains.")
    waiting = compared(added(), "It snows.", at=timezone.now() - timedelta(days=1))
    assert rows(admin_client, VERDICTS) == [waiting, agreeing]
    assert rows(admin_client, VERDICTS, agrees__isnull="True") == [waiting]
    assert rows(admin_client, VERDICTS, agrees__exact="1") == [agreeing]


def test_comparison_page_shows_both_questions_and_answers(admin_client: Client) -> None:
    made = added(prompt="What is rain?", answer_text="Water that falls.")
    verdict = compared(made, "Water that is frozen.", prompt="What is snow?", similarity=0.912)
    text = page_of(admin_client, verdict)
    for shown in ("What is rain?", "Water that falls.", "What is snow?", "frozen.", "0.912"):
        assert shown in text


def test_comparison_page_stays_when_the_entry_is_gone(admin_client: Client) -> None:
    made = added()
    verdict = compared(made, "It snows.")
    act(admin_client, ENTRIES, "forget", made)
    assert "forgotten" in page_of(admin_client, verdict)
    assert rows(admin_client, VERDICTS) == [verdict]


@pytest.mark.parametrize(("action", "state"), [("agrees", "live"), ("differs", "refused")])
def test_comparisons_are_decided(admin_client: Client, action: str, state: str) -> None:
    made = added()
    verdict = compared(made, "It snows.")
    assert "1 comparison(s) decided." in act(admin_client, VERDICTS, action, verdict)
    verdict.refresh_from_db()
    made.refresh_from_db()
    assert (verdict.agrees, verdict.source) == (action == "agrees", "person")
    assert made.state == state


def test_comparisons_name_what_has_stopped_and_how_it_goes_on(admin_client: Client) -> None:
    found = [compared(added(preset="fast"), "It snows.") for _ in range(3)]
    stopped = "3 of 3 answers were not confirmed: the semantic cache of m@v1 fast has stopped."
    assert stopped in admin_client.get(VERDICTS).content.decode()
    assert verdicts.is_stopped("m@v1", "fast")
    assert stopped not in act(admin_client, VERDICTS, "agrees", found[0])
    assert not verdicts.is_stopped("m@v1", "fast")


def test_deleted_comparisons_no_longer_stop(admin_client: Client) -> None:
    found = [compared(added(), "It snows.") for _ in range(3)]
    form = {"action": "delete_selected", "_selected_action": [found[0].pk], "post": "yes"}
    admin_client.post(VERDICTS, form)
    assert CacheVerdict.objects.count() == 2
    assert not verdicts.is_stopped("m@v1", "")


def test_pages_are_closed_without_the_permissions() -> None:
    client = staff()
    assert client.get(ENTRIES).status_code == 403
    assert client.get(VERDICTS).status_code == 403


def test_pages_offer_no_action_without_its_permission() -> None:
    client = staff("view_semanticentry", "view_cacheverdict")
    made = added()
    verdict = compared(made, "It snows.")
    assert rows(client, ENTRIES) == [made]
    act(client, ENTRIES, "forget", made)
    act(client, VERDICTS, "agrees", verdict)
    act(client, VERDICTS, "delete_selected", verdict)
    verdict.refresh_from_db()
    assert verdict.agrees is None
    assert SemanticEntry.objects.exists()


@pytest.mark.parametrize("permission", ["change_cacheverdict", "delete_semanticentry"])
def test_pages_offer_actions_with_the_permission(permission: str) -> None:
    client = staff("view_semanticentry", "view_cacheverdict", permission)
    made = added()
    verdict = compared(made, "It snows.")
    act(client, ENTRIES, "forget", made)
    act(client, VERDICTS, "differs", verdict)
    verdict.refresh_from_db()
    assert (verdict.agrees is False) == (permission == "change_cacheverdict")
    assert SemanticEntry.objects.exists() == (permission == "change_cacheverdict")


def dialog(client: Client, **fields: Any) -> str:
    page = reverse("admin:caching_semanticentry_forget_by_condition")
    return client.post(page, fields | {"_form_submitted": "on"}, follow=True).content.decode()


def test_answers_are_forgotten_by_condition(admin_client: Client) -> None:
    old = added(created_at=timezone.now() - timedelta(hours=3))
    other, kept = added(version_key="m@v2"), added()
    dialog(admin_client, hours="2")
    dialog(admin_client, version="m@v2")
    assert list(SemanticEntry.objects.all()) == [kept]
    assert not SemanticEntry.objects.filter(pk__in=[old.pk, other.pk]).exists()
    dialog(admin_client, everything="on")
    assert not SemanticEntry.objects.exists()


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "Give a condition, or tick Everything alone."),
        ({"key": "ab", "everything": "on"}, "Give a condition, or tick Everything alone."),
        ({"user": "nobody"}, "Select a valid choice"),
        ({"hours": "-1"}, "greater than or equal to 0"),
    ],
)
def test_nothing_is_forgotten_without_a_clear_condition(
    admin_client: Client, fields: dict[str, str], fault: str
) -> None:
    added()
    assert fault in dialog(admin_client, **fields)
    assert SemanticEntry.objects.exists()


def test_answers_are_not_forgotten_by_condition_without_the_permission() -> None:
    client = staff("view_semanticentry")
    added()
    dialog(client, everything="on")
    assert SemanticEntry.objects.exists()


def test_hit_that_nobody_compared_is_shown_beside_its_entry_and_can_be_refused(
    admin_client: Client,
) -> None:
    made = added(prompt="What is rain?")
    hit = CacheVerdict(entry=made, prompt="what's rain", similarity=0.97, user_id=8)
    verdicts.record(hit, None)
    waiting = compared(added(), "It snows.")
    assert rows(admin_client, VERDICTS) == [waiting, hit]
    assert "not compared" in page_of(admin_client, made)
    act(admin_client, VERDICTS, "differs", hit)
    made.refresh_from_db()
    assert made.state == "refused"
