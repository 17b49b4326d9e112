"""The models that answer a chat request together."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.conf import OrchestrationSettings
from inference.database import in_database
from inference.errors import InferenceError
from inference.orders import resolution
from inference.orders.cast import Cast
from inference.orders.resolution import Resolver
from models_registry.models import Model, ModelVersion, Preset
from models_registry.rules.mode_settings import DebateSettings
from tests.models_registry.fleet_rows import a_node, a_version
from tests.stack import database  # noqa: F401 - fixtures

MODELS_DIR = Path("/models")
TEXT = "text_generation"


@pytest.fixture(autouse=True)
def files_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)


@pytest.fixture
def versions(database: None) -> tuple[ModelVersion, ModelVersion]:  # noqa: F811
    one = Model.objects.create(slug="one", name="One", roles=["fast"])
    two = Model.objects.create(slug="two", name="Two", roles=["primary"])
    return a_version("v1", one, is_default=True), a_version("v1", two, is_default=True)


@pytest.fixture
def resolver(versions: tuple[ModelVersion, ModelVersion]) -> Resolver:
    return Resolver(MODELS_DIR, draw=lambda: 0.5)


def a_debate(*versions: ModelVersion, **fields: Any) -> Preset:
    preset = Preset.objects.create(name="D9", orchestration_mode="debate", **fields)
    for position, version in enumerate(versions):
        preset.members.create(position=position, role="debater", model=version.model)
    return preset


def parts(cast: Cast | None) -> str:
    assert cast is not None
    assert [member.index for member in cast.members] == list(range(len(cast.members)))
    return ", ".join(f"{one.spec.version_key} {one.participant}" for one in cast.members)


async def refusal(resolver: Resolver, name: str, **fields: Any) -> InferenceError:
    with pytest.raises(InferenceError) as refused:
        await resolver.cast(name, **fields)
    return refused.value


@pytest.mark.parametrize("fields", [{"name": "D9"}, {"name": "auto", "preset": "D9"}])
async def test_cast_of_a_preset_has_its_members_sampling_and_settings(
    resolver: Resolver, versions: tuple[ModelVersion, ...], fields: dict[str, str]
):
    values = {"settings": {"max_rounds": 2}, "default_sampling": {"top_k": 7}}
    await in_database(a_debate, *versions, **values)
    cast = await resolver.cast(**fields, mode="debate")
    assert parts(cast) == "one@v1 debater, two@v1 debater, two@v1 reconciler"
    assert cast == await resolver.cast(**fields)
    assert cast is not None
    assert (cast.mode, cast.name, cast.preset) == ("debate", "D9", "D9")
    assert cast.settings == DebateSettings(max_rounds=2)
    for member in cast.members:
        assert (member.spec.preset, member.spec.default_sampling) == ("D9", {"top_k": 7})


async def test_cast_without_a_preset_begins_with_the_model_that_is_named(resolver: Resolver):
    cast = await resolver.cast("two", mode="ensemble")
    assert parts(cast) == "two@v1 generator, one@v1 generator, two@v1 synthesiser"
    assert cast is not None
    assert (cast.name, cast.preset) == ("two", "")
    cast = await resolver.cast("role:fast", mode="critique")
    assert parts(cast) == "one@v1 generator, one@v1 critic"
    assert parts(await resolver.cast("auto", mode="critique")).startswith("two@v1 generator")


async def test_settings_give_the_usual_mode_and_its_settings(
    versions: tuple[ModelVersion, ModelVersion],
):
    usual = OrchestrationSettings(default_mode="debate")
    modes = {**usual.modes, "debate": DebateSettings(1, "fast")}
    resolver = Resolver(MODELS_DIR, settings=replace(usual, modes=modes))
    cast = await resolver.cast("two")
    assert parts(cast) == "two@v1 debater, two@v1 debater, one@v1 reconciler"
    assert cast is not None
    assert cast.settings.max_rounds == 1
    assert await resolver.cast("two", mode="single") is None
    assert (await resolver.resolve("two", TEXT)).version_key == "two@v1"
    await in_database(Model.objects.update, type="embedding")
    resolver._kept.clear()
    assert await resolver.cast("two") is None


async def test_one_model_is_no_cast_and_is_read_once(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resolution, "OFFER_SECONDS", 60.0)
    for mode in (None, "single"):
        assert await resolver.cast("one", mode=mode) is None

    async def unread(*_: Any) -> None:
        raise AssertionError("The registry is read again.")

    monkeypatch.setattr(resolution, "in_database", unread)
    assert (await resolver.resolve("one", TEXT)).version_key == "one@v1"
    assert await resolver.cast("one") is None


async def test_parts_of_one_model_have_one_version_while_a_canary_runs(
    versions: tuple[ModelVersion, ModelVersion],
):
    def arrange() -> None:
        a_version("v2", versions[0].model, canary_percent=50)
        versions[1].delete()

    await in_database(arrange)
    draws = iter([0.1, 0.9, 0.1, 0.9])
    resolver = Resolver(MODELS_DIR, draw=lambda: next(draws))
    for key in ("one@v2", "one@v1"):
        cast = await resolver.cast("one", mode="ensemble")
        assert cast is not None
        assert {member.spec.version_key for member in cast.members} == {key}


async def test_mode_that_contradicts_the_preset_is_refused(
    resolver: Resolver, versions: tuple[ModelVersion, ModelVersion]
):
    def arrange() -> None:
        a_debate(*versions)
        preset = Preset.objects.create(name="S9")
        preset.members.create(role="generator", model=versions[0].model)

    await in_database(arrange)
    for name, mode, own in (
        ("D9", "single", "debate"),
        ("D9", "critique", "debate"),
        ("S9", "debate", "single"),
    ):
        error = await refusal(resolver, name, mode=mode)
        assert (error.status, error.param) == (400, "orchestration_mode")
        assert f"{name} has the mode {own}" in error.message
        assert f"is {mode}" in error.message
    assert await resolver.cast("S9", mode="single") is None
    assert (await refusal(resolver, "one", preset="D9")).param == "preset"
    assert (await refusal(resolver, "auto", preset="D8")).status == 404


async def test_preset_whose_files_are_not_here_says_which(
    resolver: Resolver, versions: tuple[ModelVersion, ModelVersion]
):
    def arrange() -> None:
        a_debate(*versions, versions[0])
        for version, state in zip(versions, ("absent", "fetching"), strict=True):
            ModelVersion.objects.filter(pk=version.pk).update(file_state=state)

    await in_database(arrange)
    error = await refusal(resolver, "D9")
    assert (error.status, error.code, error.retriable) == (503, "preset_not_ready", True)
    assert "one@v1 (debater) is absent, two@v1 (debater) is fetching" in error.message
    assert error.message.endswith("python manage.py fetch_model one@v1 two@v1")
    assert error.details["members"][1] == {
        "model": "two@v1",
        "participant": "debater",
        "state": "fetching",
    }
    assert (await refusal(resolver, "one", mode="debate")).code == "model_file_missing"


async def test_preset_with_a_member_too_large_for_every_machine_says_by_how_much(
    resolver: Resolver, versions: tuple[ModelVersion, ModelVersion]
):
    def arrange() -> None:
        a_debate(*versions)
        a_node(budget_bytes=10 << 30)
        ModelVersion.objects.filter(pk=versions[1].pk).update(
            header=None, documented_memory_bytes=20 << 30, file_state="absent"
        )

    await in_database(arrange)
    error = await refusal(resolver, "D9")
    assert (error.status, error.code) == (503, "preset_too_large")
    assert "Too large even alone: two@v1" in error.message
    assert "10.0 GiB" in error.message
    (reason,) = error.details["nodes"].values()
    assert reason in error.message
    await in_database(a_node, budget_bytes=30 << 30)
    resolver._kept.clear()
    assert (await refusal(resolver, "D9")).code == "preset_not_ready"


async def test_members_too_large_together_take_turns(
    resolver: Resolver, versions: tuple[ModelVersion, ModelVersion]
):
    def arrange() -> None:
        a_debate(*versions)
        a_node(budget_bytes=10 << 30)
        ModelVersion.objects.update(header=None, documented_memory_bytes=8 << 30)

    await in_database(arrange)
    assert await resolver.cast("D9") is not None
