"""Versions of task types, roles and presets, by the rows of the registry."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from models_registry.catalogue.routing import (
    fallbacks_of,
    find_offer_for_role,
    find_offer_for_task,
    find_preset,
    find_team,
)
from models_registry.catalogue.seeding import seed_registry
from models_registry.errors import RegistryError
from models_registry.fleet import desired
from models_registry.models import (
    ContextBudget,
    Fallback,
    Model,
    ModelVersion,
    Preset,
    PresetMember,
    Replica,
    RoleAssignment,
    TaskRoute,
)
from models_registry.rules.mode_settings import CritiqueSettings, read_settings
from tests.models_registry.fleet_rows import a_node, a_version

pytestmark = pytest.mark.django_db
MODELS_DIR = Path("/models")


def _model(*roles: str, **fields: object) -> ModelVersion:
    version = a_version(is_default=True, **fields)
    Model.objects.filter(pk=version.model_id).update(roles=list(roles))
    version.refresh_from_db()
    return version


def _of_task(task_type: str) -> str | None:
    offer = find_offer_for_task(task_type, MODELS_DIR)
    return None if offer is None else offer.spec.version_key


def _of_role(role: str) -> str | None:
    offer = find_offer_for_role(role, MODELS_DIR)
    return None if offer is None else offer.spec.version_key


def test_task_goes_to_its_role_or_the_fallback_role() -> None:
    TaskRoute.objects.create(task_type="code", role="coder", fallback_role="primary")
    primary = _model("primary")
    assert _of_task("code") == primary.key
    coder = _model("coder")
    assert (_of_task("code"), _of_task("")) == (coder.key, primary.key)


def test_roles_of_the_settings_go_before_those_of_the_row(settings: Any) -> None:
    one, other = _model("coder"), _model("coder")
    settings.INFERENCE = replace(
        settings.INFERENCE, model_roles={one.model.slug: ("fast", "thinker")}
    )
    assert (_of_role("coder"), _of_role("thinker")) == (other.key, one.key)


def test_role_that_no_model_has_is_nobody() -> None:
    fast = _model("fast", "primary")
    assert (_of_role("fast"), _of_role("coder")) == (fast.key, None)


def test_deprecated_model_answers_where_no_other_can() -> None:
    TaskRoute.objects.create(task_type="quick", role="fast")
    deprecated = _model("fast", is_deprecated=True)
    desired.load(deprecated, a_node())
    Replica.objects.update(state=Replica.State.READY)
    assert (_of_role("fast"), _of_task("quick")) == (deprecated.key, deprecated.key)
    current = _model("primary", "fast")
    assert (_of_role("fast"), _of_task("quick")) == (current.key, current.key)


def test_model_without_file_or_for_embeddings_is_no_candidate() -> None:
    _model("fast", file_state="absent")
    embedding = _model("fast")
    Model.objects.filter(pk=embedding.model_id).update(type="embedding")
    assert _of_role("fast") is None


def test_loaded_model_goes_first() -> None:
    _model("fast")
    loaded = _model("primary", "fast")
    desired.load(loaded, a_node())
    assert _of_role("fast") != loaded.key
    Replica.objects.update(state=Replica.State.READY)
    assert _of_role("fast") == loaded.key


def _preset(mode: str = "critique", **fields: object) -> Preset:
    return Preset.objects.create(name="D1", orchestration_mode=mode, **fields)


def test_preset_names_its_members_with_their_versions() -> None:
    first, second = _model(), _model()
    pinned = a_version("pinned", model=second.model)
    preset = _preset(settings={"max_rounds": 1}, default_sampling={"temperature": 0})
    preset.members.create(position=1, role="critic", model=second.model, version=pinned)
    preset.members.create(position=0, role="generator", model=first.model)
    spec = find_preset("D1", MODELS_DIR)
    assert spec is not None
    assert (spec.mode, spec.default_sampling) == ("critique", {"temperature": 0})
    assert (spec.settings.max_rounds, spec.settings.threshold) == (1, 0.8)
    assert [(m.role, m.offer.spec.version_key) for m in spec.members] == [
        ("generator", first.key),
        ("critic", pinned.key),
    ]


def test_preset_that_is_not_registered_is_none() -> None:
    assert find_preset("D1", MODELS_DIR) is None


def test_preset_that_cannot_run_says_why() -> None:
    version = _model()
    preset = _preset()
    preset.members.create(role="generator", model=version.model)
    with pytest.raises(RegistryError, match=r"preset D1 cannot run: .*needs a critic"):
        find_preset("D1", MODELS_DIR)
    preset.members.create(position=1, role="critic", model=version.model)
    assert find_preset("D1", MODELS_DIR) is not None
    ModelVersion.objects.update(is_default=False)
    with pytest.raises(RegistryError, match="has no default version"):
        find_preset("D1", MODELS_DIR)
    Preset.objects.update(settings={"rounds": 3})
    with pytest.raises(RegistryError, match="unknown field `rounds`"):
        find_preset("D1", MODELS_DIR)


def test_preset_takes_the_settings_of_the_service_that_it_leaves_out() -> None:
    version = _model()
    preset = _preset(settings={"threshold": 1})
    for role in ("generator", "critic"):
        preset.members.create(role=role, model=version.model)
    spec = find_preset("D1", MODELS_DIR, {"critique": CritiqueSettings(4, 0.5)})
    assert spec is not None
    assert spec.settings == CritiqueSettings(4, 1)


@pytest.mark.parametrize("wanted", ["thinker", "named", "nobody", "coder"])
def test_debate_without_a_reconciler_gets_one(wanted: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    first, second, outside = _model("fast"), _model("primary", "thinker"), _model("coder")
    names = {"named": second.model.slug}
    preset = _preset("debate", settings={"reconcile_model": names.get(wanted, wanted)})
    for position, version in enumerate((first, second)):
        preset.members.create(position=position, role="debater", model=version.model)
    spec = find_preset("D1", MODELS_DIR)
    assert spec is not None
    member = spec.members[-1]
    expected = {"nobody": first, "coder": outside}.get(wanted, second)
    assert (member.role, member.offer.spec.version_key) == ("reconciler", expected.key)
    # Without its file the model of another role cannot take the part.
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    if wanted == "coder":
        spec = find_preset("D1", MODELS_DIR)
        assert spec is not None
        assert spec.members[-1].offer.spec.version_key == first.key
    preset.members.create(position=2, role="reconciler", model=first.model)
    assert len(find_preset("D1", MODELS_DIR).members) == 3


def test_team_follows_the_rows_and_the_type_of_task(monkeypatch: Any) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    TaskRoute.objects.create(task_type="code", role="coder")
    for role, part, own in (("coder", "refiner", True), ("primary", "validator", False)):
        RoleAssignment.objects.create(
            mode="pipeline", role=role, participant=part, own_tasks_only=own
        )
    first, coder, primary = _model("fast"), _model("coder"), _model("primary")
    offer = find_offer_for_role("fast", MODELS_DIR)
    assert offer is not None

    def keys(task_type: str) -> list[str]:
        settings = read_settings("pipeline", {})
        team = find_team(offer, "pipeline", settings, task_type, MODELS_DIR)
        return [member.offer.spec.version_key for member in team.members]

    assert keys("code") == [first.key, coder.key, primary.key]
    assert keys("") == [first.key, first.key, primary.key]


def test_every_seeded_preset_resolves() -> None:
    seed_registry()
    for name in Preset.objects.values_list("name", flat=True):
        assert find_preset(name, MODELS_DIR) is not None


def test_fallbacks_come_in_their_order() -> None:
    model, second, first = (_model().model for _ in range(3))
    Fallback.objects.create(model=model, position=2, target=second)
    Fallback.objects.create(model=model, position=1, target=first)
    assert fallbacks_of(model.slug) == [first.slug, second.slug]
    assert fallbacks_of(first.slug) == []


def test_rows_that_contradict_themselves_are_refused() -> None:
    version, other = _model(context_length_tokens=10), _model()
    few_cells = _model(context_length_tokens=100, kv_cells=12)
    embedding = _model().model
    embedding.type = "embedding"
    embedding.save()
    preset = _preset()
    sections = {
        f"{name}_tokens": 3
        for name in ("system", "trajectory", "handoff", "user_query", "generation")
    }
    for row, reason in (
        (Fallback(model=version.model, target=version.model), "own fallback"),
        (Fallback(model=version.model, target=embedding), "is of type embedding"),
        (PresetMember(preset=preset, model=embedding), "Only text generation"),
        (PresetMember(preset=preset, model=other.model, version=version), "is not a version of"),
        (Preset(name="X", settings={"a": 1}), "unknown field `a`"),
        (Preset(name="no spaces"), "Use letters"),
        (Preset(name="X", default_sampling={"top_p": 2}), "<= 1.0"),
        (ContextBudget(version=version, **sections), "takes 10, the smaller of"),
        (ContextBudget(version=few_cells, **sections), "takes 12, the smaller of"),
        (Model(slug="x", name="x", roles=["boss"]), "primary, fast"),
        (Model(slug="x", name="x", roles=["fast", "fast"]), "each role once"),
    ):
        with pytest.raises(ValidationError, match=reason):
            row.full_clean()
