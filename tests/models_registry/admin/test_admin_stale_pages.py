"""Pages of the admin that were opened before something else changed what they show."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from models_registry.models import (
    ContextBudget,
    Model,
    ModelVersion,
    Node,
    Preset,
    Replica,
    Source,
)
from tests.models_registry.admin_pages import opened
from tests.models_registry.fleet_rows import a_node, a_version

pytestmark = pytest.mark.django_db
Change = Callable[[], object]


@pytest.fixture
def keeper() -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_superuser("keeper", password="long enough"))
    return client


def _save_later(client: Client, row: Any, meanwhile: Change, **edits: str) -> None:
    """Open the page of a row, let something happen, then save the page with some edits."""
    url = reverse(f"admin:models_registry_{row._meta.model_name}_change", args=[row.pk])
    sent = opened(client, url)
    meanwhile()
    assert client.post(url, sent | edits).status_code == 302
    row.refresh_from_db()


def test_version_page_takes_nothing_back_from_a_download(keeper: Client) -> None:
    version = a_version(file_state="absent")
    facts = {"chat_template": "a\nb", "sha256": "f" * 64, "context_length_tokens": 64}
    states = {"is_default": True, "pinned": True, "file_state": "ready"}
    rows = ModelVersion.objects.filter(pk=version.pk)
    _save_later(keeper, version, lambda: rows.update(**facts, **states), threads="3")
    assert version.threads == 3
    assert {name: getattr(version, name) for name in facts | states} == facts | states


def test_model_page_takes_nothing_back_from_a_download(keeper: Client) -> None:
    model = a_version().model
    facts = {"type": "embedding", "capabilities": ["embedding"]}
    rows = Model.objects.filter(pk=model.pk)
    _save_later(keeper, model, lambda: rows.update(**facts), roles="fast, coder")
    assert (model.type, model.capabilities, model.roles) == (*facts.values(), ["fast", "coder"])


def test_model_page_takes_nothing_back_from_its_versions(keeper: Client) -> None:
    version, other = a_version(file_state="absent"), a_version()
    other.model = version.model

    def change() -> None:
        ModelVersion.objects.filter(pk=version.pk).update(file_state="ready")
        ModelVersion.objects.filter(pk=other.pk).update(model=version.model, label="v2")

    _save_later(keeper, version.model, change, name="Renamed")
    _save_later(keeper, version.model, other.delete, licence="MIT")
    version.refresh_from_db()
    assert (version.file_state, version.model.name) == ("ready", "Renamed")
    assert version.model.licence == "MIT"


def test_node_page_takes_no_budget_back(keeper: Client) -> None:
    node = a_node()
    budgets = {"cpu": 1 << 30, "cuda:0": 2 << 30}
    rows = Node.objects.filter(pk=node.pk)
    _save_later(keeper, node, lambda: rows.update(device_budgets=budgets), max_replicas="7")
    assert (node.device_budgets, node.max_replicas) == (budgets, 7)
    _save_later(keeper, node, lambda: rows.update(max_replicas=2), device_budgets="")
    assert (node.device_budgets, node.max_replicas) == ({}, 2)


def test_sources_that_were_not_touched_stay_as_they_are_by_then(keeper: Client) -> None:
    version = a_version()
    source = version.sources.create(url="hf://a/b/old.gguf", only_public=True, position=2)
    rows = Source.objects.filter(pk=source.pk)
    changed = {"url": "hf://a/b/new.gguf", "only_public": False, "position": 5}
    _save_later(keeper, version, lambda: rows.update(**changed), threads="3")
    assert rows.values(*changed).get() == changed


def test_source_keeps_the_fields_that_somebody_else_changed(keeper: Client) -> None:
    version = a_version()
    source = version.sources.create(url="hf://a/b/old.gguf")
    rows = Source.objects.filter(pk=source.pk)
    edits = {"sources-0-url": "hf://a/b/mine.gguf"}
    _save_later(keeper, version, lambda: rows.update(only_public=True, position=3), **edits)
    source.refresh_from_db()
    assert (source.url, source.only_public, source.position) == ("hf://a/b/mine.gguf", True, 3)


def test_source_is_added_beside_those_of_somebody_else(keeper: Client) -> None:
    version = a_version()
    edits = {"sources-TOTAL_FORMS": "1", "sources-0-url": "hf://a/b/mine.gguf"}
    edits |= {"sources-0-position": "0", "sources-0-position-opened": "0"}
    _save_later(
        keeper, version, lambda: version.sources.create(url="hf://a/b/theirs.gguf"), **edits
    )
    urls = set(version.sources.values_list("url", flat=True))
    assert urls == {"hf://a/b/mine.gguf", "hf://a/b/theirs.gguf"}


def test_context_budget_keeps_the_sections_that_somebody_else_changed(keeper: Client) -> None:
    version = a_version()
    sections = ("system", "trajectory", "handoff", "user_query", "generation")
    budget = ContextBudget.objects.create(
        version=version, **{f"{name}_tokens": 8 for name in sections}
    )
    rows = ContextBudget.objects.filter(pk=budget.pk)
    edits = {"context_budget-0-generation_tokens": "16"}
    _save_later(keeper, version, lambda: rows.update(system_tokens=24), **edits)
    budget.refresh_from_db()
    assert (budget.system_tokens, budget.generation_tokens) == (24, 16)
    assert budget.total_tokens == 64


def test_fallback_keeps_its_place_when_another_target_is_set(keeper: Client) -> None:
    model, first, second = (a_version().model for _ in range(3))
    fallback = model.fallbacks.create(target=first)
    edits = {"fallbacks-0-target": str(second.pk)}
    _save_later(keeper, model, lambda: model.fallbacks.update(position=4), **edits)
    fallback.refresh_from_db()
    assert (fallback.target, fallback.position) == (second, 4)


def test_preset_and_members_keep_what_somebody_else_changed(keeper: Client) -> None:
    first, second = a_version().model, a_version().model
    preset = Preset.objects.create(name="X1", title="Old", orchestration_mode="single")
    member = preset.members.create(model=first, role="generator")

    def change() -> None:
        Preset.objects.update(title="New")
        preset.members.update(model=second)

    edits = {"description": "Mine", "members-0-position": "1"}
    _save_later(keeper, preset, change, **edits)
    member.refresh_from_db()
    assert (preset.title, preset.description) == ("New", "Mine")
    assert (member.model, member.position) == (second, 1)


def test_version_page_is_saved_though_a_replica_of_it_is_gone(keeper: Client) -> None:
    version = a_version()
    replica = Replica.objects.create(version=version, node=a_node())
    _save_later(keeper, version, replica.delete, threads="3")
    assert version.threads == 3
