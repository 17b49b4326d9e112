"""Which version serves what a request names."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.database import in_database
from inference.errors import InferenceError, InvalidRequestError, ModelNotFoundError
from inference.orders import resolution
from inference.orders.resolution import Resolver
from models_registry.catalogue.rollout import set_canary
from models_registry.fleet.registrations import register
from models_registry.models import Model, ModelVersion, Preset, PresetMember, TaskRoute
from models_registry.rules.requirement import ModelRequirement
from tests.models_registry.fleet_rows import a_version
from tests.stack import database  # noqa: F401 - fixtures

MODELS_DIR = Path("/models")
TEXT = "text_generation"


@pytest.fixture(autouse=True)
def files_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)


@pytest.fixture
def version(database: None) -> ModelVersion:  # noqa: F811
    Model.objects.create(slug="m", name="M", roles=["coder", "fast"])
    return a_version("v1", Model.objects.get(), is_default=True, default_sampling={"top_k": 1})


@pytest.fixture
def resolver(version: ModelVersion) -> Resolver:
    return Resolver(MODELS_DIR, draw=lambda: 0.5)


def a_preset(name: str, version: ModelVersion, mode: str = "single", **fields: Any) -> Preset:
    preset = Preset.objects.create(name=name, orchestration_mode=mode, **fields)
    roles = ["generator"] if mode == "single" else ["debater", "debater"]
    for role in roles:
        PresetMember.objects.create(preset=preset, model=version.model, role=role)
    return preset


async def refusal(resolver: Resolver, name: str, kind: str = TEXT, **fields: Any) -> InferenceError:
    with pytest.raises(InferenceError) as refused:
        await resolver.resolve(name, kind, **fields)
    return refused.value


async def test_version_is_not_read_anew_for_each_request(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resolution, "OFFER_SECONDS", 60.0)
    spec = await resolver.resolve("m", TEXT)
    await in_database(ModelVersion.objects.update, chat_template="new")
    assert await resolver.resolve("m", TEXT) is spec


async def test_version_is_read_anew_after_a_while(
    resolver: Resolver, version: ModelVersion, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resolution, "OFFER_SECONDS", 0.0)
    await resolver.resolve("m", TEXT)
    await in_database(ModelVersion.objects.update, chat_template="new")
    assert (await resolver.resolve("m", TEXT)).chat_template == "new"
    await in_database(version.model.delete)
    assert isinstance(await refusal(resolver, "m"), ModelNotFoundError)


async def test_names_of_clients_do_not_fill_the_memory(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resolution, "_MAX_KEPT", 3)
    await in_database(TaskRoute.objects.create, task_type="default", role="coder")
    for number in range(10):
        await resolver.resolve("auto", TEXT, task_type=f"task {number}")
    assert len(resolver._kept) <= 3


async def test_canary_gets_its_share_of_requests(version: ModelVersion):
    def two_versions() -> None:
        canary = a_version("v2", version.model)
        set_canary(canary, 25)

    await in_database(two_versions)
    draws: Iterator[float] = iter([number / 200 for number in range(200)])
    resolver = Resolver(MODELS_DIR, draw=lambda: next(draws))
    specs = [await resolver.resolve("m", TEXT) for _ in range(200)]
    assert Counter(spec.version_key for spec in specs) == {"m@v2": 50, "m@v1": 150}


async def test_version_that_is_named_gets_all(version: ModelVersion):
    def two_versions() -> None:
        set_canary(a_version("v2", version.model), 100)

    await in_database(two_versions)
    resolver = Resolver(MODELS_DIR)
    assert (await resolver.resolve("m@v1", TEXT)).version_key == "m@v1"
    assert (await resolver.resolve("m", TEXT)).version_key == "m@v2"


async def test_role_names_a_model(resolver: Resolver):
    assert (await resolver.resolve("role:coder", TEXT)).model_slug == "m"
    assert "fetch" in (await refusal(resolver, "role:thinker")).message.lower()
    error = await refusal(resolver, "role:poet")
    assert (error.code, "coder" in error.message) == ("model_not_found", True)


async def test_task_type_counts_where_the_model_is_auto(resolver: Resolver):
    await in_database(TaskRoute.objects.create, task_type="code", role="coder")
    await in_database(
        TaskRoute.objects.create, task_type="default", role="thinker", fallback_role="thinker"
    )
    assert (await resolver.resolve("auto", TEXT, task_type="code")).model_slug == "m"
    assert (await resolver.resolve("m", TEXT, task_type="rag")).model_slug == "m"
    assert (await refusal(resolver, "auto", task_type="rag")).param == "task_type"
    assert (await refusal(resolver, "auto")).param == "model"


async def test_preset_of_one_model_is_served_with_its_sampling(
    resolver: Resolver, version: ModelVersion
):
    sampling = {"temperature": 0.5}
    await in_database(a_preset, "S9", version, default_sampling=sampling)
    by_field = await resolver.resolve("auto", TEXT, preset="S9", mode="single")
    assert by_field.default_sampling == {"top_k": 1, "temperature": 0.5}
    assert await resolver.resolve("S9", TEXT) == by_field


async def test_route_of_one_model_refuses_several(resolver: Resolver, version: ModelVersion):
    await in_database(a_preset, "D9", version, "debate")
    for error in (
        await refusal(resolver, "D9"),
        await refusal(resolver, "auto", preset="D9"),
        await refusal(resolver, "m", mode="critique"),
    ):
        assert isinstance(error, InvalidRequestError)
        assert (error.status, error.code) == (400, "unsupported_mode")
        assert "Send a chat request" in error.message


async def test_preset_that_cannot_run_says_why(resolver: Resolver):
    await in_database(Preset.objects.create, name="S9")
    error = await refusal(resolver, "auto", preset="S9")
    assert (error.status, error.param) == (400, "preset")
    assert "needs at least 1 member" in error.message


async def test_preset_and_model_contradict_each_other(resolver: Resolver, version: ModelVersion):
    await in_database(a_preset, "S9", version)
    error = await refusal(resolver, "m", preset="S9")
    assert (error.status, error.param) == (400, "preset")


@pytest.mark.parametrize(
    ("name", "fields", "param"),
    [("x", {}, "model"), ("auto", {"preset": "x"}, "preset"), ("registration:x", {}, "model")],
)
async def test_unknown_names_are_404(
    resolver: Resolver, name: str, fields: dict[str, str], param: str
):
    error = await refusal(resolver, name, **fields)
    assert (error.status, error.param) == (404, param)


async def test_model_of_another_type_is_404(resolver: Resolver):
    assert (await refusal(resolver, "m", "embedding")).code == "wrong_model_type"


async def test_registration_names_its_version_and_sampling(resolver: Resolver):
    requirement = ModelRequirement(model_type=TEXT, name="m", temperature=0.25)
    made = await in_database(register, "mine", requirement, "module", MODELS_DIR)
    spec = await resolver.resolve("registration:mine", TEXT)
    assert spec.default_sampling == {"top_k": 1, "temperature": 0.25}
    await in_database(made.registration.refresh_from_db)
    assert made.registration.last_used_at is not None
