"""The page on which a version answers a prompt, for those who may operate."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import AsyncClient
from django.urls import reverse

from inference.database import in_database
from metrics.models import RequestRecord
from models_registry.access import OPERATORS, VIEWERS
from tests.stack import (
    FakeModel,
    body_of,
    database,
    model,
    record_of,
    redis_client,
    register_version,
    service,
    shared_tokenizer,
    sse_events,
    version,
)

__all__ = ["database", "model", "redis_client", "service", "shared_tokenizer", "version"]
EVENTS = {"Accept": "text/event-stream"}


def _address(model: FakeModel) -> str:
    return reverse("try_version", args=[model.key])


def _member_of(group: str) -> AsyncClient:
    user = get_user_model().objects.create_user("oda", password="long enough", is_staff=True)
    user.groups.add(Group.objects.get(name=group))
    client = AsyncClient()
    client.force_login(user)
    return client


@pytest.fixture
def groups(database: None) -> None:
    """The groups: the database is emptied after tests that see several threads."""
    from django.apps import apps

    from models_registry.access import LEVELS, grant_levels

    for label in {label for level in LEVELS for label in level.codenames}:
        grant_levels(apps.get_app_config(label))


@pytest.fixture
def operator(groups: None) -> AsyncClient:
    return _member_of(OPERATORS)


def _asked(**fields: Any) -> dict[str, Any]:
    return {"prompt": "Hello", "max_tokens": 50, "system": "", "temperature": "0"} | fields


async def test_answer_comes_as_events_and_is_recorded_for_the_user(
    model: FakeModel, operator: AsyncClient
) -> None:
    model.say("Good day.")
    response = await operator.post(_address(model), _asked(), headers=EVENTS)
    events = sse_events(await body_of(response))
    texts = [c["delta"].get("content") or "" for e in events[:-1] for c in e["choices"]]
    assert "".join(texts) == "Good day."
    assert events[-2]["usage"]["completion_tokens"] > 0
    record = await record_of(events[0]["id"])
    assert record.version_key == model.key
    user = await in_database(get_user_model().objects.get, username="oda")
    assert record.user_id == user.pk


async def test_answer_is_in_the_page_without_javascript(
    model: FakeModel, operator: AsyncClient
) -> None:
    model.say("Good <day>.")
    page = (await operator.post(_address(model), _asked())).content.decode()
    assert "Good &lt;day&gt;." in page
    assert "Hello" in page


async def test_version_without_a_template_continues_the_text(
    model: FakeModel, operator: AsyncClient
) -> None:
    model.version.chat_template = ""
    await in_database(model.version.save)
    model.say(" and on")
    response = await operator.post(_address(model), _asked(), headers=EVENTS)
    events = sse_events(await body_of(response))
    assert "".join(c["text"] for e in events[:-1] for c in e["choices"]) == " and on"


async def test_what_is_refused_is_said(model: FakeModel, operator: AsyncClient) -> None:
    too_much = _asked(max_tokens=1_000_000)
    answer = await operator.post(_address(model), too_much, headers=EVENTS)
    assert answer.status_code == 400
    assert "context is" in answer.json()["error"]["message"]
    page = (await operator.post(_address(model), too_much)).content.decode()
    assert "context is" in page


async def test_form_that_is_not_filled_in_is_refused(
    model: FakeModel, operator: AsyncClient
) -> None:
    answer = await operator.post(_address(model), _asked(prompt=""), headers=EVENTS)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "Prompt: This field is required."
    assert not await in_database(RequestRecord.objects.exists)


async def test_viewer_is_refused_and_a_stranger_sent_to_the_login(
    model: FakeModel, groups: None
) -> None:
    viewer = await in_database(_member_of, VIEWERS)
    assert (await viewer.get(_address(model))).status_code == 403
    answer = await viewer.post(_address(model), _asked(), headers=EVENTS)
    assert answer.status_code == 403
    assert "Ask for the group Operators" in answer.json()["error"]["message"]
    answer = await AsyncClient().get(_address(model))
    assert answer.status_code == 302
    assert answer.url.startswith("/admin/login/")


async def test_script_is_told_that_the_session_has_ended(model: FakeModel) -> None:
    answer = await AsyncClient().post(_address(model), _asked(), headers=EVENTS)
    assert answer.status_code == 401
    assert "Reload the page to log in" in answer.json()["error"]["message"]


async def test_answer_needs_the_token_of_a_form(model: FakeModel, operator: AsyncClient) -> None:
    strict = AsyncClient(enforce_csrf_checks=True)
    strict.cookies = operator.cookies
    assert (await strict.post(_address(model), _asked(), headers=EVENTS)).status_code == 403


async def test_versions_that_write_nothing_have_no_such_page(
    operator: AsyncClient, smollm2_path
) -> None:
    embedding = await in_database(register_version, smollm2_path, "embedding")
    key = await in_database(lambda: embedding.key)
    assert (await operator.get(reverse("try_version", args=[key]))).status_code == 404
    assert (await operator.get(reverse("try_version", args=["no@v1"]))).status_code == 404
