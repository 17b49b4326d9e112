"""The record of the demand prediction in the admin."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from models_registry.access import VIEWERS
from models_registry.models import ModelVersion, Prediction
from tests.models_registry.admin_users import client_of
from tests.models_registry.fleet_rows import a_version

pytestmark = pytest.mark.django_db
PAGE = reverse("admin:models_registry_prediction_changelist")
GIB = 1 << 30


def _predicted(version: ModelVersion, outcome: str, hours_ago: float, idle_hours: float) -> None:
    made_at = timezone.now() - timedelta(hours=hours_ago)
    Prediction.objects.create(
        version=version,
        made_at=made_at,
        until=made_at + timedelta(minutes=30),
        probability=0.75,
        needed_bytes=GIB,
        acted_on=False,
        outcome=outcome,
        wasted_byte_seconds=idle_hours * 3600 * GIB,
    )


def test_page_has_the_record_of_a_week_and_each_prediction() -> None:
    version = a_version()
    for outcome in ("hit", "hit", "waste", "missed", "pending"):
        _predicted(version, outcome, hours_ago=1, idle_hours=0.25)
    _predicted(version, "missed", hours_ago=24 * 8, idle_hours=0)
    page = client_of(VIEWERS).get(PAGE)
    row = ("2", "1", "1", "1", "67%", "67%", "1.25")
    assert page.context["record"]["rows"] == [(version.key, *row), ("all", *row)]
    text = page.content.decode()
    assert all(f">{name}<" in text.replace("\n", "").replace(" ", "") for name in (*row, "all"))
    assert "INFERENCE_DEMAND_PREDICTION is shadow." in text
    assert page.context["cl"].result_count == 6
    assert text.count("75%") == 6


def test_page_without_predictions_says_so() -> None:
    assert "No predictions." in client_of(VIEWERS).get(PAGE).content.decode()


def test_page_needs_the_permission_to_view() -> None:
    assert client_of("").get(PAGE).status_code == 403
