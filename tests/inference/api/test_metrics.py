"""``/api/metrics``: reports over HTTP, to each reader the part that is theirs."""

import csv
import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import AsyncClient
from django.utils import timezone

from inference.database import in_database
from inference.models import Membership, Scope, Team
from metrics.ledger.slots import SLOT, slot_of
from metrics.models import RefusedSlot
from models_registry.access import VIEWERS
from models_registry.models import ModelVersion
from tests.metrics.reports.totals import add, add_shape
from tests.stack import Api, make_api

ROUTES = ["", "/usage", "/cost", "/models/some"]


@pytest.fixture
def viewer(database: None) -> Api:
    """A client whose user may see everything."""
    client = make_api("viewer")
    client.user.groups.add(Group.objects.get(name=VIEWERS))
    return client


def now_text() -> str:
    """The quarter of an hour before the last, in UTC."""
    return (slot_of(timezone.now()) - SLOT).isoformat()[:16]


async def totals(api: Api, path: str = "/api/metrics/usage") -> Any:
    return (await api.get(path)).json()["totals"]["requests_count"]


@pytest.mark.parametrize("route", [*(f"/api/metrics{path}" for path in ROUTES), "/api/v1/metrics"])
async def test_metrics_need_a_key_with_their_scope(database: None, route: str):
    assert (await AsyncClient().get(route)).status_code == 401
    other = await in_database(make_api, "other", [Scope.INFERENCE, Scope.MODELS_OPERATE])
    refused = await other.get(route)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")


async def test_metrics_show_own_requests_those_of_owned_teams_or_all(
    api: Api, stranger: Api, viewer: Api
):
    def arrange() -> None:
        team = Team.objects.create(slug="t", name="T")
        Membership.objects.create(team=team, user=stranger.user, role=Membership.Role.OWNER)
        Membership.objects.create(team=team, user=api.user)
        add(now_text(), 1, user_id=api.user.pk)
        add(now_text(), 2, user_id=api.user.pk, team_id=team.pk)
        add(now_text(), 4, user_id=viewer.user.pk)
        add(now_text(), 8, user_id=stranger.user.pk)
        RefusedSlot.objects.create(slot=slot_of(timezone.now()) - SLOT, code="busy", requests=5)

    await in_database(arrange)
    for path in ("", "/usage", "/cost"):
        assert await totals(api, f"/api/metrics{path}") == 3
        assert await totals(stranger, f"/api/metrics{path}") == 10
        assert await totals(viewer, f"/api/metrics{path}") == 15
    own = (await api.get(f"/api/metrics/usage?filter=user:{viewer.user.pk}")).json()
    assert (own["totals"]["requests_count"], own["refused"]) == (0, None)
    assert (await viewer.get("/api/v1/metrics")).json()["refused"] == {"busy": 5}


async def test_metrics_of_the_service_are_of_a_day_by_model(viewer: Api):
    await in_database(add, now_text(), 3)
    found = (await viewer.get("/api/metrics")).json()
    assert (found["object"], found["group"]) == ("usage.report", ["model"])
    assert [(row["model"], row["requests_count"]) for row in found["data"]] == [("m", 3)]
    other = (await viewer.get("/api/metrics?tz=Asia/Tokyo")).json()
    assert other["from"].endswith("+09:00")
    assert other["group"] == ["model"]
    assert (await viewer.get("/api/metrics?group=kind")).json()["group"] == ["kind"]


async def test_metrics_name_bad_input(api: Api, version: ModelVersion):
    for path, param in (
        ("/usage?group=planet", "group"),
        ("/usage?period=minute", "period"),
        ("/cost?tz=Mars", "tz"),
        ("?from=yesterday", "from"),
        ("/usage?from=2026-11-02&to=2026-11-01", "from"),
        ("/usage?from=1926-01-01", "from"),
        ("/usage?format=xml", "format"),
        ("/usage?filter=planet:x", "filter"),
        ("/usage?filter=user:%00", "filter"),
        ("/usage?colour=red", "colour"),
        (f"/models/{version.model.slug}?last=x", "last"),
        (f"/models/{version.model.slug}?group=user", "group"),
        (f"/models/{version.model.slug}?format=csv", "format"),
    ):
        response = await api.get(f"/api/metrics{path}")
        assert (response.status_code, response.json()["error"]["param"]) == (400, param), path


async def test_metrics_come_as_csv_and_as_a_page(api: Api):
    await in_database(add, now_text(), 3, user_id=api.user.pk)
    table = await api.get("/api/v1/metrics?format=csv&group=model")
    assert table["Content-Type"] == "text/csv; charset=utf-8"
    assert table["Content-Disposition"] == 'attachment; filename="usage.csv"'
    (row,) = csv.DictReader(StringIO(table.content.decode()))
    assert (row["model"], row["requests_count"]) == ("m", "3")
    page = await api.get("/api/metrics/usage?format=html")
    assert page["Content-Type"].startswith("text/html")
    assert "<h1>Usage</h1>" in page.content.decode()


async def test_metrics_of_cost_project_the_month_for_each_group(api: Api):
    await in_database(add, now_text(), user_id=api.user.pk, key_id=9, cost_nano=2_500_000_000)
    found = (await api.get("/api/metrics/cost?group=key")).json()
    assert found["totals"]["estimated_cost"] == "2.500000000"
    total, by_key = found["projections"]
    assert (total["note"], total["month_projected"]) == ("too little data", None)
    assert (by_key["key_id"], by_key["key"]) == (9, "#9")
    printed = (await api.get("/api/metrics/cost?group=key&format=html")).content.decode()
    assert f"<h2>{timezone.now():%B} by key</h2>" in printed
    cells = ["#9", "$2.50", "-", "too little data"]
    assert re.sub(r"</td><td[^>]*>", "|", printed).count("|".join(cells)) == 1
    usage = (await api.get("/api/metrics/usage?group=key&format=html")).content.decode()
    assert "too little data" not in usage


async def test_metrics_of_a_model_have_the_form_of_their_design(api: Api, version: ModelVersion):
    other = f"{version.model.slug}@v2"

    def arrange() -> None:
        for number, key in enumerate((version.key, other), start=1):
            add(
                now_text(),
                number,
                user_id=api.user.pk,
                version_key=key,
                prompt_tokens=10,
                completion_tokens=5,
                finished_us=number * 250_000,
                cost_nano=1,
            )
        add_shape(now_text(), "ttft", [80_000], version.key)
        add(now_text(), 7, version_key=f"{version.model.slug}x@v1", user_id=api.user.pk)

    await in_database(arrange)
    found = (await api.get(f"/api/metrics/models/{version.model.slug}")).json()
    assert (found["model_id"], found["version"]) == (version.model.slug, None)
    assert found["metrics"]["requests_count"] == 3
    second, first = found["data"]
    assert first["version"] == version.key
    assert first["ttft_p50_ms"] == pytest.approx(80, rel=0.02)
    assert {
        "requests_count": 1,
        "tokens_input": 10,
        "tokens_output": 5,
        "avg_response_time_ms": 250.0,
        "error_rate": 0.0,
        "fallback_rate": 0.0,
        "estimated_cost": "0.000000001",
    }.items() <= first.items()
    assert (second["version"], "ttft_p50_ms" in second) == (other, False)
    one = (await api.get(f"/api/metrics/models/{version.key}?last=2d&period=day")).json()
    assert (one["version"], one["metrics"]["requests_count"]) == (version.key, 1)
    assert one["period"] == "day"


async def test_metrics_of_unknown_models_are_404(api: Api, version: ModelVersion):
    for path in ("x", "x@v1", "a%00b", f"{version.model.slug}@none"):
        response = await api.get(f"/api/metrics/models/{path}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
