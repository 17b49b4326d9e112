"""``/api/models/registrations`` and ``/api/status``."""

import uuid
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.test import AsyncClient

from inference.database import in_database
from inference.models import Scope
from inference.services import InferenceService
from models_registry.models import ModelVersion, Registration
from tests.stack import Api, FakeModel, make_api

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


async def test_status_reports_the_pool(api: Api, version: ModelVersion, service: InferenceService):
    await api.post(ROUTE, body(version))
    content = (await api.get("/api/status")).json()
    # No machine has shown itself.
    assert (content["object"], content["state"], content["initialized"]) == (
        "status", "error", False,
    )  # fmt: skip
    assert content["worker_pool"]["num_workers"] == 0
    (model,) = content["models"]
    assert (model["version"], model["references"], model["state"]) == (version.key, 1, None)
