"""Versions by name, and the status of models and replicas."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from models_registry.catalogue.lookup import find_offer
from models_registry.catalogue.status import model_statuses, replica_statuses
from models_registry.fleet import desired
from models_registry.models import ContextBudget, Replica
from tests.models_registry.fleet_rows import a_node, a_version

pytestmark = pytest.mark.django_db
MODELS_DIR = Path("/models")


def test_find_offer_by_model_and_by_version() -> None:
    default = a_version("a", is_default=True, kv_cells=512, context_length_tokens=2048)
    other = a_version("b", model=default.model, file_name="deep/b.gguf")
    slug = default.model.slug
    found = find_offer(slug, MODELS_DIR)
    assert found is not None
    assert (found.spec.version_key, found.spec.sequence_limit_tokens) == (f"{slug}@a", 512)
    named = find_offer(f"{slug}@b", MODELS_DIR)
    assert named is not None
    assert (named.spec.version_key, named.spec.path) == (other.key, "/models/deep/b.gguf")


@pytest.mark.parametrize("state", ["ready", "absent", "fetching", "failed"])
def test_a_draft_whose_file_is_not_there_is_left_out(state: str) -> None:
    draft = a_version(file_state=state, header=None)
    version = a_version(is_default=True, draft_model=draft)
    offer = find_offer(version.model.slug, MODELS_DIR)
    assert offer is not None
    assert (offer.spec.draft_path is not None) == (state == "ready")


def test_a_version_without_a_context_length_is_bounded_by_its_cells() -> None:
    version = a_version(is_default=True, kv_cells=1000)
    offer = find_offer(version.model.slug, MODELS_DIR)
    assert offer is not None
    spec = offer.spec
    assert spec.context_length_tokens == spec.sequence_limit_tokens == 1000


def test_find_offer_reads_the_context_budget_in_the_same_queries(
    django_assert_num_queries: Any,
) -> None:
    version = a_version(is_default=True)
    with CaptureQueriesContext(connection) as without:
        offer = find_offer(version.model.slug, MODELS_DIR)
    assert offer is not None
    assert offer.spec.sections == {}
    sections = {"system": 1, "trajectory": 2, "handoff": 3, "user_query": 4, "generation": 5}
    rows = {f"{section}_tokens": tokens for section, tokens in sections.items()}
    ContextBudget.objects.create(version=version, **rows)
    with django_assert_num_queries(len(without)):
        offer = find_offer(version.model.slug, MODELS_DIR)
    assert offer is not None
    assert offer.spec.sections == sections


@pytest.mark.parametrize("name", ["{slug}", "{slug}@none", "{slug}@", "", "@v1", "other"])
def test_find_offer_of_what_is_not_registered_is_none(name: str) -> None:
    slug = a_version(is_default=False).model.slug
    assert find_offer(name.format(slug=slug), MODELS_DIR) is None


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "available"),
        (["ready"], "loaded"),
        (["failed", "ready"], "loaded"),
        (["loading", "ready"], "loaded"),
        (["stopped"], "loading"),
        (["starting", "failed"], "loading"),
        (["loading"], "loading"),
        (["failed"], "failed"),
        (["draining"], "available"),
    ],
)
def test_status_of_a_model_is_that_of_its_best_replica(states: list[str], expected: str) -> None:
    version = a_version(is_default=True)
    for state in states:
        replica = desired.load(version, a_node())
        Replica.objects.filter(pk=replica.pk).update(state=state)
    (status,) = model_statuses(version.model.slug)
    assert status.status == expected
    assert status.version == version
    assert sorted(replica.state for replica in status.replicas) == sorted(states)


def test_replicas_that_are_not_wanted_do_not_count() -> None:
    version = a_version(is_default=True)
    desired.load(version, a_node())
    Replica.objects.update(state="ready", desired="absent")
    (status,) = model_statuses(version.model.slug)
    assert status.status == "available"
    assert len(status.replicas) == 1


def test_what_failed_is_told_though_nobody_wants_it_any_more() -> None:
    version = a_version(is_default=True)
    desired.load(version, a_node())
    Replica.objects.update(state="failed", desired="absent", reason="It died.")
    (status,) = model_statuses(version.model.slug)
    assert status.status == "failed"
    assert status.replicas[0].reason == "It died."


def test_statuses_keep_models_apart() -> None:
    loaded, other = a_version(is_default=True), a_version(is_default=False)
    node = a_node()
    desired.load(loaded, node)
    statuses = {status.model.slug: status for status in model_statuses()}
    assert len(statuses[loaded.model.slug].replicas) == 1
    assert statuses[other.model.slug].replicas == []
    assert statuses[other.model.slug].version is None
    (replica,) = replica_statuses()
    assert (replica.version_key, replica.node) == (loaded.key, node.name)


def test_lists_need_few_queries(django_assert_max_num_queries: object) -> None:
    node = a_node(max_replicas=10)
    for _ in range(5):
        desired.load(a_version(is_default=True), node)
    with django_assert_max_num_queries(4):  # type: ignore[operator]
        assert len(model_statuses()) == 5


def test_the_end_of_a_log_is_not_told_to_other_apps() -> None:
    desired.load(a_version(), a_node())
    Replica.objects.update(reason="It died.\nIts log ends:\nTraceback: out of memory")
    assert [status.reason for status in replica_statuses()] == ["It died."]


def test_offer_has_the_prices_of_the_last_hour_and_those_to_come() -> None:
    version = a_version(is_default=True)
    now = timezone.now()
    for hours in (-50, -30, -0.5, 3):
        version.prices.create(
            valid_from=now + timedelta(hours=hours),
            prompt_usd_per_million_tokens=Decimal("0.123457"),
            completion_usd_per_million_tokens=Decimal(999_999),
            cached_usd_per_million_tokens=Decimal("0.01") if hours > 0 else None,
        )
    offer = find_offer(version.model.slug, MODELS_DIR)
    assert offer is not None
    prices = offer.spec.prices
    assert [round((price.valid_from - now) / timedelta(hours=1), 1) for price in prices] == [
        -30,
        -0.5,
        3,
    ]
    assert [price.prompt_nano for price in prices] == [123_457_000] * 3
    assert [price.cached_nano for price in prices] == [123_457_000, 123_457_000, 10_000_000]
    assert {price.completion_nano for price in prices} == {999_999 * 10**9}
    assert [price.id for price in prices] == [row.pk for row in version.prices.all()[1:]]
