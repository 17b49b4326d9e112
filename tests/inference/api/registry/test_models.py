"""``/api/models``: models, versions, figures."""

from datetime import timedelta
from decimal import Decimal

from django.test import AsyncClient
from django.utils import timezone

from inference.database import in_database
from metrics.ledger.roll import roll
from models_registry.models import Fallback, Model, ModelVersion
from tests.stack import Api, FakeModel, record_of


async def test_models_routes_need_a_credential(database: None):
    for path in ("", "/m", "/m/versions", "/m/metrics"):
        assert (await AsyncClient().get(f"/api/models{path}")).status_code == 401


async def test_models_are_listed_and_shown(api: Api, version: ModelVersion):
    def arrange() -> None:
        other = Model.objects.create(slug="other", name="Other")
        Fallback.objects.create(model=version.model, target=other)
        ModelVersion.objects.create(
            model=version.model, label="v2", file_name="b.gguf", canary_percent=10
        )

    await in_database(arrange)
    listed = (await api.get("/api/models")).json()["data"]
    summary = next(one for one in listed if one["id"] == version.model.slug)
    assert summary["default_version"] == version.key
    assert summary["status"] == "available"
    shown = (await api.get(f"/api/models/{version.model.slug}")).json()
    assert shown["fallbacks"] == ["other"]
    assert [one["id"] for one in shown["versions"]] == [version.key, f"{version.model.slug}@v2"]
    versions = (await api.get(f"/api/models/{version.model.slug}/versions")).json()
    assert versions == {"object": "list", "data": shown["versions"]}
    first, second = shown["versions"]
    assert (first["is_default"], second["is_default"]) == (True, False)
    assert (first["file"], second["file"]) == ("ready", "absent")
    assert second["canary_percent"] == 10
    assert first["configuration"]["kv_cells"] == version.kv_cells


async def test_versions_show_how_they_run(api: Api, version: ModelVersion):
    draft = {"label": "small", "file_name": "b.gguf", "model": version.model}

    def arrange() -> None:
        ModelVersion.objects.filter(pk=version.pk).update(
            draft_model=ModelVersion.objects.create(**draft),
            threads=3,
            tensor_split=[3, 1],
            vocabulary_size=1000,
            kv_bytes_per_token=64,
        )

    await in_database(arrange)
    versions = (await api.get(f"/api/models/{version.model.slug}/versions")).json()["data"]
    shown = next(one for one in versions if one["id"] == version.key)
    assert (shown["vocabulary_size"], shown["kv_bytes_per_token"]) == (1000, 64)
    assert (
        shown["configuration"]
        | {
            "threads": 3,
            "tensor_split": [3, 1],
            "flash_attention": "auto",
            "cache_type_k": "f16",
            "cache_type_v": "f16",
            "draft_model": f"{version.model.slug}@small",
            "speculation": "auto",
        }
        == shown["configuration"]
    )


async def test_versions_show_the_price_in_force(api: Api, version: ModelVersion):
    path = f"/api/models/{version.model.slug}/versions"
    free = (await api.get(path)).json()["data"][0]["price"]
    assert set(free.values()) == {0.0}

    def arrange() -> None:
        now = timezone.now()
        for hours, usd in ((-2, "9.5"), (-1, "0.15"), (1, "7")):
            version.prices.create(
                valid_from=now + timedelta(hours=hours),
                prompt_usd_per_million_tokens=Decimal(usd),
                completion_usd_per_million_tokens=Decimal("0.6"),
                usd_per_device_hour=Decimal("1.25"),
            )

    await in_database(arrange)
    assert (await api.get(path)).json()["data"][0]["price"] == {
        "prompt_usd_per_million_tokens": 0.15,
        "cached_usd_per_million_tokens": 0.15,
        "completion_usd_per_million_tokens": 0.6,
        "usd_per_device_hour": 1.25,
    }
    assert free.keys() == (await api.get(path)).json()["data"][0]["price"].keys()


async def test_unknown_models_are_404(api: Api):
    for path in ("x", "x/versions", "x/metrics", "a%00b"):
        response = await api.get(f"/api/models/{path}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_metrics_count_what_was_served(api: Api, model: FakeModel):
    model.say("abc")
    empty = (await api.get(f"/api/models/{model.slug}/metrics")).json()
    assert (empty["model_id"], empty["data"]) == (model.slug, [])
    answer = await api.post(
        "/v1/chat/completions",
        {"model": model.slug, "messages": [{"role": "user", "content": "x"}]},
    )
    await record_of(answer.json()["id"])
    await in_database(roll)
    (figures,) = (await api.get(f"/api/models/{model.slug}/metrics")).json()["data"]
    assert (figures["version"], figures["requests_count"], figures["error_rate"]) == (
        model.key,
        1,
        0,
    )
    assert figures["tokens_output"] == answer.json()["usage"]["completion_tokens"]
    assert figures["total_p50_ms"] > 0
    assert "queue_p99_ms" in figures
