"""The functions for Django programs: register, use, release, status."""

import pytest

from inference.database import in_database
from inference.model_manager import (
    ModelRequirement,
    generate_embeddings,
    get_service_status,
    register_model,
    release_model,
)
from inference.runs.runtime import Runtime
from models_registry.models import ModelVersion, Registration
from tests.stack import (  # noqa: F401 - fixtures
    EMBEDDING_DIMENSIONS,
    FakeModel,
    database,
    embedding_model,
    eventually,
    recorded,
    redis_client,
    service,
    shared_tokenizer,
)


def need(model: FakeModel, **fields: object) -> ModelRequirement:
    return ModelRequirement(model_type="embedding", name=model.slug, **fields)


async def test_register_says_what_came_of_it(embedding_model: FakeModel):  # noqa: F811
    result = await register_model("docs", need(embedding_model), "module_a")
    assert result.success
    assert result.data == {
        "registered": True,
        "model_id": "docs",
        "new_registration": True,
        "model_type": "embedding",
        "model_name": embedding_model.slug,
        "reference_count": 1,
        "version": embedding_model.key,
    }
    assert (await register_model("docs", need(embedding_model), "module_a")).data[
        "new_registration"
    ] is False
    second = await register_model("docs", need(embedding_model), "module_b")
    assert second.data["reference_count"] == 2


async def test_register_says_what_is_wrong(embedding_model: FakeModel):  # noqa: F811
    result = await register_model("docs", need(embedding_model, dimension=7), "module_a")
    assert not result.success
    assert result.error.code == "requirement_not_met"
    assert result.error.details == {"field": "dimension"}
    assert "4 dimensions, not 7" in str(result.error)
    assert not await in_database(Registration.objects.exists)


async def test_release_counts_down_and_a_second_time_is_an_error(
    embedding_model: FakeModel,  # noqa: F811
):
    for requester in ("a", "b"):
        await register_model("docs", need(embedding_model), requester)
    assert (await release_model("docs", "a")).data == {"released": True, "references": 1}
    assert (await release_model("docs", "b")).data == {"released": True, "references": 0}
    again = await release_model("docs", "b")
    assert (again.success, again.error.details) == (False, {"field": "model_id"})


async def test_embeddings_come_in_order_and_in_batches(
    embedding_model: FakeModel,  # noqa: F811
    service: Runtime,  # noqa: F811
):
    await register_model("docs", need(embedding_model, batch_size=2), "module_a")
    texts = ["one", "one two", "one two three", "one two", "one"]
    result = await generate_embeddings(texts, "docs")
    assert result.success, result.error
    vectors = result.data["embeddings"]
    assert [len(vector) for vector in vectors] == [EMBEDDING_DIMENSIONS] * 5
    assert vectors[0] == vectors[4] != vectors[1]
    assert vectors[1] == vectors[3]
    assert result.data["model_id"] == "docs"
    assert result.data["version"] == embedding_model.key
    assert result.data["cached"] is False
    assert result.data["worker_id"] == embedding_model.launch_id
    records = [(each.end_user, each.user_id) for each in await recorded(3)]
    assert records == [("docs", 0)] * 3
    one = await generate_embeddings("one", "docs")
    assert one.data["embeddings"] == [vectors[0]]


@pytest.mark.parametrize("texts", [[], "", ["a", ""]])
async def test_embeddings_of_nothing_are_an_error(
    embedding_model: FakeModel,  # noqa: F811
    texts: object,
):
    await register_model("docs", need(embedding_model), "module_a")
    assert (await generate_embeddings(texts, "docs")).error.code == "invalid_value"


async def test_embeddings_need_a_registration(
    embedding_model: FakeModel,  # noqa: F811
    service: Runtime,  # noqa: F811
):
    assert (await generate_embeddings("a", "docs")).error.code == "model_not_found"
    await register_model("docs", need(embedding_model), "module_a")
    assert (await generate_embeddings("a", "docs")).success
    await release_model("docs", "module_a")
    assert (await generate_embeddings("a", "docs")).error.code == "released"


async def test_embeddings_have_the_dimension_that_was_asked_for(
    embedding_model: FakeModel,  # noqa: F811
    service: Runtime,  # noqa: F811
):
    # It is known once the file is there, which may be after the registration.
    await in_database(ModelVersion.objects.update, embedding_dimensions=None)
    await register_model("docs", need(embedding_model, dimension=7), "module_a")
    await in_database(ModelVersion.objects.update, embedding_dimensions=EMBEDDING_DIMENSIONS)
    result = await generate_embeddings("a", "docs")
    assert result.error.code == "requirement_not_met"
    assert result.error.details == {"field": "dimension"}


@pytest.mark.parametrize("name", ["x" * 201, "a\0b", ""])
async def test_names_that_cannot_be_kept_are_an_error(
    embedding_model: FakeModel,  # noqa: F811
    service: Runtime,  # noqa: F811
    name: str,
):
    result = await register_model(name, need(embedding_model), "module_a")
    assert (result.success, result.error.details) == (False, {"field": "model_id"})
    assert (await release_model(name, "module_a")).error.details == {"field": "model_id"}
    assert (await generate_embeddings("a", name)).error.code == "model_not_found"


async def test_status_lists_what_is_registered(
    embedding_model: FakeModel,  # noqa: F811
    service: Runtime,  # noqa: F811
):
    await register_model("docs", need(embedding_model), "module_a")
    await generate_embeddings("a", "docs")
    status = (await get_service_status()).data
    assert status["worker_pool"]["pending_tasks"] == 0
    (model,) = status["models"]
    assert model["version"] == embedding_model.key
    assert model["references"] == 1
    assert model["registrations"] == [{"model_id": "docs", "requester": "module_a"}]
    assert model["last_accessed"] is not None
