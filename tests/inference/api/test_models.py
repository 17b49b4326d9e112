"""``/v1/models``: what there is, load and unload."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from auditlog.models import LogEntry
from django.utils import timezone

from inference.database import in_database
from inference.queue import keys
from inference.runs.runtime import Runtime
from models_registry.files.inspection import inspect_file
from models_registry.models import Model, ModelVersion, Node, Preset, Replica
from tests.stack import Api


@pytest.fixture
def node(settings, database: None, redis_client: redis.Redis) -> Iterator[Node]:
    """A machine that answers."""
    redis_client.set(keys.node(settings.NODE_NAME), 1)
    yield Node.objects.create(name=settings.NODE_NAME, max_replicas=1, seen_at=timezone.now())
    redis_client.delete(keys.node(settings.NODE_NAME))


@pytest.fixture
def replica(version: ModelVersion, node: Node) -> Replica:
    return Replica.objects.create(version=version, node=node)


async def desired(version: ModelVersion) -> list[str]:
    wanted = Replica.objects.filter(version=version).values_list("desired", flat=True)
    return await in_database(lambda: list(wanted))


async def test_models_list_has_openai_and_own_fields(
    api: Api, service: Runtime, version: ModelVersion
):
    content = (await api.get("/v1/models")).json()
    assert content["object"] == "list"
    (entry,) = content["data"]
    assert entry["id"] == version.model.slug
    assert entry["object"] == "model"
    assert isinstance(entry["created"], int)
    assert entry["owned_by"]
    assert entry["status"] == "available"
    assert entry["context_length"] == entry["max_model_len"] == 2048
    assert entry["version"] == version.key
    assert entry["name"] == version.model.name


@pytest.mark.parametrize("with_label", [False, True])
async def test_model_detail_is_found(
    api: Api, service: Runtime, version: ModelVersion, with_label: bool
):
    name = version.key if with_label else version.model.slug
    response = await api.get(f"/v1/models/{name}")
    assert response.status_code == 200
    assert response.json()["id"] == name


async def test_model_detail_of_a_version_has_the_facts_of_that_version(
    api: Api, service: Runtime, version: ModelVersion, replica: Replica
):
    def arrange() -> None:
        Replica.objects.update(state=Replica.State.READY, needed_bytes={"cpu": 150 << 20})
        ModelVersion.objects.create(
            model=version.model,
            label="v2",
            file_name="b.gguf",
            context_length_tokens=512,
            size_bytes=70 << 20,
        )

    await in_database(arrange)
    shown = (await api.get(f"/v1/models/{version.model.slug}@v2")).json()
    assert shown["version"] == shown["id"] == f"{version.model.slug}@v2"
    assert (shown["context_length"], shown["memory_mb"]) == (512, 70)
    assert (shown["status"], shown["file"], shown["replicas"]) == ("absent", "absent", [])
    first = (await api.get(f"/v1/models/{version.key}")).json()
    assert (first["status"], len(first["replicas"])) == ("loaded", 1)


async def test_supported_parameters_are_those_that_the_route_takes(
    api: Api, service: Runtime, version: ModelVersion
):
    async def parameters() -> set[str]:
        (entry,) = (await api.get("/v1/models")).json()["data"]
        return set(entry["supported_parameters"])

    assert {"temperature", "tools", "max_tokens", "response_format"} <= await parameters()
    assert not {"model", "messages"} & await parameters()
    await in_database(ModelVersion.objects.update, chat_template="")
    assert "temperature" in await parameters()
    assert not {"tools", "prompt"} & await parameters()
    # Known from the seed, before the file is here.
    await in_database(Model.objects.update, capabilities=["chat"])
    assert "tools" in await parameters()
    await in_database(Model.objects.update, type="embedding")
    assert "dimensions" in await parameters()
    assert not {"temperature", "input"} & await parameters()


async def test_status_says_whether_the_default_version_can_answer(
    api: Api, service: Runtime, version: ModelVersion, replica: Replica
):
    async def status() -> str:
        (entry,) = (await api.get("/v1/models")).json()["data"]
        return str(entry["status"])

    await in_database(Replica.objects.update, state=Replica.State.READY)
    assert await status() == "loaded"
    other = await in_database(
        lambda: ModelVersion.objects.create(model=version.model, label="v2", file_name="b.gguf")
    )
    await in_database(Replica.objects.update, version=other)
    assert await status() == "available"
    await in_database(ModelVersion.objects.update, file_state=ModelVersion.FileState.ABSENT)
    assert await status() == "absent"
    await in_database(ModelVersion.objects.update, is_default=False)
    assert await status() == "absent"


@pytest.mark.parametrize("state", ["absent", "fetching", "failed"])
async def test_model_without_its_file_is_in_the_state_of_that(
    api: Api, service: Runtime, version: ModelVersion, state: str
):
    await in_database(ModelVersion.objects.update, file_state=state)
    (entry,) = (await api.get("/v1/models")).json()["data"]
    assert (entry["status"], entry["file"]) == (state, state)


async def test_context_length_is_what_a_replica_can_hold(
    api: Api, service: Runtime, version: ModelVersion
):
    await in_database(ModelVersion.objects.update, kv_cells=300)
    (entry,) = (await api.get("/v1/models")).json()["data"]
    sent = {"model": version.model.slug, "content": "x"}
    counted = (await api.post("/v1/tokenize", sent)).json()
    assert entry["context_length"] == counted["max_model_len"] == 300


async def test_capabilities_are_those_of_the_file_and_of_the_model(
    api: Api, service: Runtime, version: ModelVersion
):
    def arrange() -> None:
        Model.objects.update(capabilities=["chat", "fim", "code"])
        ModelVersion.objects.update(capabilities=["chat", "completion", "tools"])

    await in_database(arrange)
    for path in ("/v1/models", "/api/models"):
        (entry,) = (await api.get(path)).json()["data"]
        assert entry["capabilities"] == ["chat", "completion", "tools", "code"]


async def test_roles_are_those_of_the_settings(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    configure: Callable[..., None],
):
    configure(model_roles={version.model.slug: ("coder",)})
    for path in ("/v1/models", "/api/models"):
        (entry,) = (await api.get(path)).json()["data"]
        assert entry["roles"] == ["coder"]


async def test_list_names_the_preset_that_is_loaded_and_its_mode(
    api: Api,
    service: Runtime,
    version: ModelVersion,
    configure: Callable[..., None],
):
    async def config() -> tuple[str | None, str]:
        content = (await api.get("/v1/models")).json()
        return content["config"], content["orchestration_mode"]

    await in_database(Preset.objects.create, name="D1", orchestration_mode="critique")
    assert await config() == (None, "single")
    configure(config_preset="D1")
    assert await config() == ("D1", "critique")
    configure(preload_models=(version.key,))
    assert await config() == (None, "single")


async def test_model_detail_of_an_unknown_model_is_404(api: Api, service: Runtime):
    response = await api.get("/v1/models/nothing")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


async def test_model_detail_of_an_unknown_version_is_404(
    api: Api, service: Runtime, version: ModelVersion
):
    response = await api.get(f"/v1/models/{version.model.slug}@nothing")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


async def test_model_detail_with_a_nul_is_404(api: Api, service: Runtime):
    assert (await api.get("/v1/models/a%00b")).status_code == 404


async def test_load_wants_a_replica(api: Api, version: ModelVersion, node: Node, service: Runtime):
    response = await api.post(f"/v1/models/{version.model.slug}/load", {})
    assert response.status_code == 202
    assert response.json()["status"] == "loading"
    assert await desired(version) == ["resident"]


async def test_load_of_what_can_never_fit_is_422_with_numbers_and_is_not_to_be_retried(
    api: Api,
    version: ModelVersion,
    node: Node,
    service: Runtime,
    smollm2_path: Path,
):
    budgets = {"cpu": 1 << 20}
    await in_database(Node.objects.update, device_budgets=budgets)
    await in_database(inspect_file, version, smollm2_path)
    response = await api.post(f"/v1/models/{version.model.slug}/load", {})
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "no_room"
    assert "may use 1.0 MiB for models" in response.json()["error"]["message"]
    assert not response.has_header("Retry-After")
    assert await desired(version) == []


async def test_load_while_no_machine_answers_is_503_with_retry_after(
    api: Api, version: ModelVersion, service: Runtime
):
    response = await api.post(f"/v1/models/{version.model.slug}/load", {})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "no_node")
    assert 0 < int(response["Retry-After"]) <= 120


async def test_load_without_a_file_says_how_to_fetch_it(
    api: Api, version: ModelVersion, node: Node, service: Runtime
):
    await in_database(ModelVersion.objects.update, file_state=ModelVersion.FileState.ABSENT)
    response = await api.post(f"/v1/models/{version.model.slug}/load", {})
    assert response.status_code == 404
    assert "fetch_model" in response.json()["error"]["message"]


async def test_unload_wants_no_replica(
    api: Api, version: ModelVersion, replica: Replica, service: Runtime
):
    response = await api.post(f"/v1/models/{version.key}/unload", {})
    assert response.status_code == 202
    assert await desired(version) == ["absent"]


async def test_unload_needs_no_file(
    api: Api, version: ModelVersion, replica: Replica, service: Runtime
):
    await in_database(ModelVersion.objects.update, file_state=ModelVersion.FileState.FAILED)
    response = await api.post(f"/v1/models/{version.model.slug}/unload", {})
    assert response.status_code == 202
    assert await desired(version) == ["absent"]


async def test_unload_of_an_unknown_version_is_404(
    api: Api, service: Runtime, version: ModelVersion
):
    response = await api.post(f"/v1/models/{version.model.slug}@nothing/unload", {})
    assert response.status_code == 404


async def test_memory_is_what_is_set_aside_or_would_be(
    api: Api, version: ModelVersion, replica: Replica, service: Runtime
):
    async def memory_mb() -> int | None:
        (entry,) = (await api.get("/v1/models")).json()["data"]
        mb: int | None = entry["memory_mb"]
        return mb

    assert await memory_mb() is None
    await in_database(ModelVersion.objects.update, size_bytes=100 << 20)
    assert await memory_mb() == 100
    await in_database(
        Replica.objects.update, state=Replica.State.READY, needed_bytes={"cpu": 150 << 20}
    )
    assert await memory_mb() == 150


async def test_load_and_unload_note_who_asked(
    api: Api, version: ModelVersion, node: Node, service: Runtime
):
    for verb in ("load", "unload"):
        await api.post(f"/v1/models/{version.model.slug}/{verb}", {})
    entries = LogEntry.objects.get_for_model(Replica).values_list("actor__username", flat=True)
    assert await in_database(list, entries) == ["ada", "ada"]


async def test_unload_of_what_would_come_back_is_400_with_the_reason(
    api: Api, version: ModelVersion, replica: Replica, service: Runtime
):
    await in_database(lambda: ModelVersion.objects.filter(pk=version.pk).update(pinned=True))
    response = await api.post(f"/v1/models/{version.key}/unload", {})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "model_is_kept"
    assert "pinned" in response.json()["error"]["message"]
