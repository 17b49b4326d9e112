"""A month of invented usage: only in an empty installation, and its totals are complete."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db.models import Sum

from inference.models import Team
from inference_site.management.commands import demo_usage
from metrics.models import Correction, RequestRecord, RollMark, UsageDay, UsageSlot

pytestmark = pytest.mark.django_db(transaction=True)


def test_demo_usage_makes_records_and_all_their_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    get_user_model().objects.create_superuser("admin")
    monkeypatch.setattr(demo_usage, "DAYS", 4)
    call_command("demo_usage")
    made = RequestRecord.objects.aggregate(n=Sum("completion_tokens"), cost=Sum("cost_nano"))
    assert RequestRecord.objects.count() > 1000
    assert not RollMark.objects.exists()
    for table in (UsageSlot, UsageDay):
        sums: dict[str, Any] = table.objects.aggregate(
            n=Sum("completion_tokens"), cost=Sum("cost_nano")
        )
        assert sums == made
    assert set(RequestRecord.objects.values_list("outcome", flat=True)) >= {"finished", "failed"}
    assert Correction.objects.exists()


@pytest.mark.parametrize("others", ["user", "team"])
def test_demo_usage_refuses_an_installation_in_use(others: str) -> None:
    users = get_user_model().objects
    users.create_superuser("admin")
    if others == "user":
        users.create_user("ann")
    else:
        Team.objects.create(slug="a")
    with pytest.raises(CommandError, match="with another BRIGADE_HOME"):
        call_command("demo_usage")
    assert not RequestRecord.objects.exists()
