"""``/api/models/registrations`` and ``/api/status``."""

import uuid
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.test import AsyncClient

from inference.database import in_database
from inference.models import Scope
from inference.runs.runtime import Runtime, runtime
from models_registry.models import ModelVersion, Registration
from tests.stack import Api, FakeModel, make_api, recorded

ROUTE = "/api/models/registrations"
UNKNOWN = f"{ROUTE}/{uuid.uuid4()}"


@pytest.fixture
def reader(database: None) -> Api:
    """A client that may look and not touch."""
    return make_api("reader", scopes=[Scope.INFERENCE, Scope.MODELS_READ])


def body(version: ModelVersion, **fields: Any) -> dict[str, Any]:
    need = {"model_type": "text_generation", "name": version.model.slug}
    return {
        "model_id": "mine",
        "requester_module_id": "module_a",
        "model_config": need | fields,
    }


async def test_registration_routes_need_a_credential_and_the_scope(reader: Api):
    for method, path in (("get", ROUTE), ("post", ROUTE), ("delete", UNKNOWN)):
        assert (await getattr(AsyncClient(), method)(path)).status_code == 401
    assert (await AsyncClient().get("/api/status")).status_code == 401
    assert (await reader.get(ROUTE)).status_code == 200
    assert (await reader.post(ROUTE, {})).status_code == 403
    assert (await reader.delete(UNKNOWN)).status_code == 403


async def test_registration_is_made_listed_and_released(api: Api, version: ModelVersion):
    response = await api.post(ROUTE, body(version, temperature=0.5))
    assert response.status_code == 201
    made = response.json()
    assert (made["registered"], made["new_registration"], made["reference_count"]) == (
        True,
        True,
        1,
    )
    assert (made["model_id"], made["version"]) == ("mine", version.key)
    assert made["model_config"]["temperature"] == 0.5
    again = await api.post(ROUTE, body(version, temperature=0.5))
    assert (again.status_code, again.json()["id"]) == (200, made["id"])
    other = await api.post(
        ROUTE, body(version, temperature=0.5) | {"requester_module_id": "module_b"}
    )
    assert other.json()["reference_count"] == 2
    listed = (await api.get(ROUTE)).json()["data"]
    assert [row["requester_module_id"] for row in listed] == ["module_a", "module_b"]
    for _ in range(2):
        gone = await api.delete(f"{ROUTE}/{made['id']}")
        assert (gone.status_code, gone.json()["references"]) == (200, 1)
        assert gone.json()["released_at"] is not None
    assert len((await api.get(ROUTE)).json()["data"]) == 1
    actors = LogEntry.objects.get_for_model(Registration).values_list("actor__username", flat=True)
    assert set(await in_database(list, actors)) == {"ada"}


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"name": "nothing"}, 404, "model_config.name"),
        ({"dimension": 3}, 400, "model_config.dimension"),
        ({"model_type": "embedding"}, 400, "model_config.model_type"),
        ({"max_input_length": 1_000_000}, 400, "model_config.max_input_length"),
    ],
)
async def test_registration_that_cannot_be_met_names_the_field(
    api: Api, version: ModelVersion, fields: dict[str, Any], status: int, param: str
):
    response = await api.post(ROUTE, body(version, **fields))
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert (await api.get(ROUTE)).json()["data"] == []


async def test_registration_needs_all_of_its_fields(api: Api):
    response = await api.post(ROUTE, {"model_id": "a", "model_config": {}})
    assert response.json()["error"]["param"] == "requester_module_id"


async def test_releasing_an_unknown_registration_is_404(api: Api):
    assert (await api.delete(UNKNOWN)).status_code == 404


async def test_registered_name_serves_requests(api: Api, model: FakeModel):
    model.say("ab")
    await api.post(ROUTE, body(model.version))
    response = await api.post(
        "/v1/chat/completions",
        {"model": "registration:mine", "messages": [{"role": "user", "content": "x"}]},
    )
    assert response.json()["choices"][0]["message"]["content"] == "ab"
    (row,) = (await api.get(ROUTE)).json()["data"]
    assert row["last_used_at"] is not None


async def test_status_reports_the_pool(api: Api, version: ModelVersion, service: Runtime):
    await api.post(ROUTE, body(version))
    content = (await api.get("/api/status")).json()
    # No machine has shown itself.
    assert (content["object"], content["state"], content["initialized"]) == (
        "status", "error", False,
    )  # fmt: skip
    assert content["worker_pool"]["num_workers"] == 0
    (model,) = content["models"]
    assert (model["version"], model["references"], model["state"]) == (version.key, 1, None)


def chat(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "x"}]
    return {"model": "registration:mine", "messages": messages} | fields


async def test_lengths_of_a_registration_hold_its_requests(api: Api, model: FakeModel):
    await api.post(ROUTE, body(model.version, max_input_length=20, max_output_length=3))
    answer = (await api.post("/v1/chat/completions", chat())).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3
    text = {"model": "registration:mine", "prompt": "x"}
    assert (await api.post("/v1/completions", text)).json()["usage"]["completion_tokens"] == 3
    more = await api.post("/v1/chat/completions", chat(max_tokens=4))
    assert (more.status_code, more.json()["error"]["param"]) == (400, "max_tokens")
    assert "allows 3" in more.json()["error"]["message"]
    longer = await api.post("/v1/completions", text | {"prompt": "one two " * 20})
    assert longer.json()["error"]["code"] == "context_length_exceeded"
    assert longer.json()["error"]["details"]["max_input_length"] == 20
    free = await api.post("/v1/chat/completions", chat(model=model.slug, max_tokens=4))
    assert free.json()["usage"]["completion_tokens"] == 4


async def test_answers_that_name_no_length_get_the_room_that_a_registration_leaves(
    api: Api, model: FakeModel
):
    model.say("ab")
    longest = model.version.sequence_limit_tokens
    await api.post(ROUTE, body(model.version, max_output_length=longest))
    for path, request in (
        ("/v1/completions", {"model": "registration:mine", "prompt": "x"}),
        ("/v1/chat/completions", chat()),
    ):
        answer = await api.post(path, request)
        assert answer.json()["choices"][0]["finish_reason"] == "stop", answer.json()


def embedding_body(model: FakeModel, **fields: Any) -> dict[str, Any]:
    return body(model.version, model_type="embedding", **fields)


async def test_batch_size_and_dimension_hold_for_openais_route_too(
    api: Api, embedding_model: FakeModel
):
    await in_database(ModelVersion.objects.update, embedding_dimensions=None)
    await api.post(ROUTE, embedding_body(embedding_model, dimension=4, batch_size=2))
    wanted = {"model": "registration:mine", "input": ["a", "a b", "a b c"]}
    answer = (await api.post("/v1/embeddings", wanted)).json()
    assert [len(one["embedding"]) for one in answer["data"]] == [4, 4, 4]
    assert len(await recorded(2)) == 2
    await in_database(ModelVersion.objects.update, embedding_dimensions=8)
    runtime().resolver._kept.clear()
    refused = await api.post("/v1/embeddings", wanted)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "requirement_not_met"
    assert "gives 8 dimensions, not 4" in refused.json()["error"]["message"]


async def test_embeddings_have_a_route_with_the_result_that_programs_get(
    api: Api, embedding_model: FakeModel
):
    await api.post(ROUTE, embedding_body(embedding_model))
    sent = {"texts": ["a", "a b"], "model_id": "mine"}
    content = (await api.post(f"{ROUTE}/embeddings", sent)).json()
    seconds = content.pop("processing_time")
    assert seconds > 0
    assert [len(vector) for vector in content.pop("embeddings")] == [4, 4]
    assert content == {
        "model_id": "mine",
        "version": embedding_model.key,
        "cached": False,
        "worker_id": embedding_model.launch_id,
    }
    records = [each.user_id for each in await recorded()]
    assert records == [api.user.pk]
    one = await api.post(f"{ROUTE}/embeddings", sent | {"texts": "a"})
    assert len(one.json()["embeddings"]) == 1
    unknown = await api.post(f"{ROUTE}/embeddings", sent | {"model_id": "other"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert (await AsyncClient().post(f"{ROUTE}/embeddings")).status_code == 401
