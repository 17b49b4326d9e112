"""Prices that a version had in its own row become rows with dates, and back."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tests.models_registry.fleet_rows import a_version

pytestmark = pytest.mark.django_db(transaction=True)
BEFORE, AFTER = "0008_plainer_labels_and_help_texts", "0009_prices_with_dates"


def migrate(name: str) -> Any:
    """Bring the registry's tables to a migration; returns its models."""
    executor = MigrationExecutor(connection)
    executor.migrate([("models_registry", name)])
    return executor.loader.project_state([("models_registry", name)]).apps


@pytest.fixture
def latest() -> Iterator[None]:
    """Leave the tables as they are."""
    yield
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


@pytest.mark.usefixtures("latest")
def test_prices_of_versions_become_rows_from_their_creation_on_and_back() -> None:
    priced, free = a_version(), a_version()
    old = migrate(BEFORE).get_model("models_registry", "ModelVersion")
    prices = {
        "prompt_usd_per_million_tokens": Decimal("0.15"),
        "completion_usd_per_million_tokens": Decimal("0.6"),
        "usd_per_device_hour": Decimal(0),
    }
    old.objects.filter(pk=priced.pk).update(**prices)
    migrate(AFTER)
    row = priced.prices.get()
    assert row.valid_from == priced.created_at.replace(microsecond=0)
    assert {name: getattr(row, name) for name in prices} == prices
    assert row.cached_usd_per_million_tokens is None
    assert not free.prices.exists()
    old = migrate(BEFORE).get_model("models_registry", "ModelVersion")
    back = old.objects.get(pk=priced.pk)
    assert {name: getattr(back, name) for name in prices} == prices
