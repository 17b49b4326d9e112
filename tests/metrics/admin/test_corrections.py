"""Corrections in the admin: who sees them, and that nobody changes them."""

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse
from django.utils import timezone

from metrics.models import Correction
from models_registry.access import ADMINISTRATORS, VIEWERS
from tests.metrics.records import a_name
from tests.models_registry.admin_users import client_of

pytestmark = pytest.mark.django_db
LIST = reverse("admin:metrics_correction_changelist")


def a_correction(**fields: Any) -> Correction:
    usual = {"slot": timezone.now(), "version_key": "m@v1", "user_id": 1, "mode": "single"}
    usual |= {"kind": "chat", "delta_nano": -1_500_000_000, "price_id": 3, "reason": "wrong"}
    return Correction.objects.create(**usual | {"made_by": "keeper"} | fields)


def test_corrections_are_listed_with_amounts_and_reasons() -> None:
    a_correction()
    text = client_of(VIEWERS).get(LIST).content.decode()
    for shown in ("-$1.50", "m@v1", "wrong", "keeper"):
        assert shown in text
    assert client_of("").get(LIST).status_code == 403


def test_page_of_a_correction_has_dollars_names_and_plain_labels() -> None:
    a_name("user", 1, "ann", timezone.now() - timedelta(days=1))
    correction = a_correction(delta_nano=13_708_718)
    page = reverse("admin:metrics_correction_change", args=[correction.pk])
    text = client_of(VIEWERS).get(page).content.decode()
    for shown in ("Amount", "$0.014", "Quarter of an hour", "ann", "wrong", "keeper"):
        assert shown in text
    for raw in ("13708718", "Delta", "Timeline"):
        assert raw not in text


@pytest.mark.parametrize("action", ["change", "delete"])
def test_corrections_stay_as_they_are(action: str) -> None:
    correction = a_correction()
    admin = client_of(ADMINISTRATORS)
    url = reverse(f"admin:metrics_correction_{action}", args=[correction.pk])
    page = admin.get(reverse("admin:metrics_correction_change", args=[correction.pk]))
    assert "/history/" not in page.content.decode()
    assert admin.post(url, {"delta_nano": "0", "post": "yes"}).status_code == 403
    assert Correction.objects.values().get()["delta_nano"] == correction.delta_nano
    assert admin.get(reverse("admin:metrics_correction_add")).status_code == 403
