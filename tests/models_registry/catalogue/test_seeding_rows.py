"""The seed file enters the registry, and spares what people changed and deleted there."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db import connection
from django.test.utils import CaptureQueriesContext

from models_registry.catalogue.rollout import set_default
from models_registry.catalogue.seeding import SEED_FILE, seed_registry
from models_registry.models import (
    ContextBudget,
    Fallback,
    Model,
    ModelVersion,
    Preset,
    PresetMember,
    RoleAssignment,
    SeededRow,
    Source,
    TaskRoute,
)
from models_registry.seed.writer import SeedReport, may_change

pytestmark = pytest.mark.django_db
TABLES = (
    *(Model, ModelVersion, Source, ContextBudget, Fallback),
    *(Preset, PresetMember, TaskRoute, RoleAssignment),
)
BUDGET = {"system": 1, "trajectory": 2, "handoff": 3, "user_query": 4, "generation": 5}
SEED: dict[str, Any] = {
    "task_routes": [{"task_type": "code", "role": "coder", "fallback_role": "primary"}],
    "role_assignments": [{"mode": "critique", "role": "thinker", "participant": "critic"}],
    "models": [
        {
            "slug": "small",
            "name": "Small",
            "roles": ["fast"],
            "fallbacks": ["large"],
            "versions": [
                {
                    "label": "q4",
                    "file_name": "small.gguf",
                    "memory_gb": 2.3,
                    "sources": ["hf://o/small/small.gguf"],
                    "context_budget": BUDGET,
                },
            ],
        },
        {
            "slug": "large",
            "name": "Large",
            "versions": [{"label": "q4", "file_name": "large.gguf", "sources": []}],
        },
    ],
    "mode_settings": {"critique": {"max_rounds": 2, "threshold": 0.8}},
    "presets": [
        {
            "name": "D1",
            "title": "Two",
            "orchestration_mode": "critique",
            "settings": {"max_rounds": 1},
            "members": ["small generator", "large critic"],
        }
    ],
}


@pytest.fixture
def seed() -> dict[str, Any]:
    return deepcopy(SEED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "seed.yaml"


def _seed(path: Path, seed: dict[str, Any], restore: bool = False):
    path.write_text(yaml.safe_dump(seed))
    return seed_registry(path, restore)


def test_seeding_the_real_file_makes_rows_that_are_valid() -> None:
    seed = yaml.safe_load(SEED_FILE.read_text())
    report = seed_registry()
    assert (report.updated, report.kept, report.deleted) == ([], [], [])
    assert set(Model.objects.values_list("slug", flat=True)) == {m["slug"] for m in seed["models"]}
    for table in TABLES:
        for row in table.objects.all():
            row.full_clean()
    for version in ModelVersion.objects.all():
        assert (version.is_default, version.file_state) == (True, "absent")


def test_seeding_again_changes_nothing() -> None:
    seed_registry()
    tables = (*TABLES, SeededRow)
    before = [list(table.objects.order_by("pk").values()) for table in tables]
    report = seed_registry()
    assert report == SeedReport()
    assert [list(table.objects.order_by("pk").values()) for table in tables] == before


def test_seeding_fills_every_table(path: Path, seed: dict[str, Any]) -> None:
    report = _seed(path, seed)
    version = ModelVersion.objects.get(model__slug="small")
    assert version.documented_memory_bytes == 2_300_000_000
    assert version.context_budget.total_tokens == 15
    assert [source.url for source in version.sources.all()] == ["hf://o/small/small.gguf"]
    preset = Preset.objects.get()
    assert preset.settings == {"max_rounds": 1, "threshold": 0.8}
    members = [(row.position, row.model.slug, row.role) for row in preset.members.all()]
    assert members == [(0, "small", "generator"), (1, "large", "critic")]
    assert Fallback.objects.get().target.slug == "large"
    assert {"model small", "model version small@q4", "preset D1", "preset member D1/1"} <= set(
        report.added
    )


def test_new_values_of_the_seed_come_in(path: Path, seed: dict[str, Any]) -> None:
    _seed(path, seed)
    seed["presets"][0]["title"] = "A pair"
    seed["presets"][0]["description"] = "New in the seed."
    seed["presets"][0]["members"][1] = "small critic"
    report = _seed(path, seed)
    assert report.updated == ["preset D1: description, title", "preset member D1/1: model"]
    preset = Preset.objects.get()
    assert (preset.title, preset.description) == ("A pair", "New in the seed.")
    assert {row.model.slug for row in preset.members.all()} == {"small"}


def test_new_file_of_the_seed_is_to_be_fetched_first(path: Path, seed: dict[str, Any]) -> None:
    _seed(path, seed)
    ModelVersion.objects.update(file_state="ready", architecture="llama", label="renamed")
    _seed(path, seed)
    assert set(ModelVersion.objects.values_list("file_state", flat=True)) == {"ready"}
    seed["models"][0]["versions"][0]["sha256"] = "1" * 64
    _seed(path, seed)
    assert ModelVersion.objects.get(sha256="1" * 64).file_state == "absent"


def test_edited_fields_stay_and_their_neighbours_do_not(path: Path, seed: dict[str, Any]) -> None:
    _seed(path, seed)
    Preset.objects.update(title="Ours")
    Model.objects.filter(slug="small").update(roles=["coder"])
    seed["presets"][0] |= {"title": "A pair", "hardware": "server"}
    report = _seed(path, seed)
    assert report.updated == ["preset D1: hardware"]
    assert report.kept == ["model small: roles", "preset D1: title"]
    preset = Preset.objects.get()
    assert (preset.title, preset.hardware) == ("Ours", "server")
    assert Model.objects.get(slug="small").roles == ["coder"]


def test_value_set_back_to_the_seeds_follows_it_again(path: Path, seed: dict[str, Any]) -> None:
    _seed(path, seed)
    Preset.objects.update(title="Ours")
    _seed(path, seed)
    Preset.objects.update(title="Two")
    seed["presets"][0]["title"] = "A pair"
    _seed(path, seed)
    assert Preset.objects.get().title == "A pair"


def test_deleted_rows_stay_away_until_they_are_restored(path: Path, seed: dict[str, Any]) -> None:
    _seed(path, seed)
    counts = [table.objects.count() for table in TABLES]
    Preset.objects.all().delete()
    Model.objects.filter(slug="large").delete()
    TaskRoute.objects.all().delete()
    report = _seed(path, seed)
    assert report.added == []
    assert report.deleted == ["task route code", "model large", "preset D1"]
    assert not Preset.objects.exists()
    report = _seed(path, seed, restore=True)
    assert [table.objects.count() for table in TABLES] == counts
    assert {"model large", "preset member D1/1", "fallback large for small"} <= set(report.added)
    assert ModelVersion.objects.get(model__slug="large").is_default
    assert not _seed(path, seed).deleted


def test_member_of_a_deleted_model_is_left_out(path: Path, seed: dict[str, Any]) -> None:
    _seed(path, seed)
    PresetMember.objects.all().delete()
    Model.objects.filter(slug="large").delete()
    seed["presets"].append(seed["presets"][0] | {"name": "D2"})
    _seed(path, seed)
    assert [row.model.slug for row in Preset.objects.get(name="D2").members.all()] == ["small"]


def test_renamed_rows_are_known_again(path: Path, seed: dict[str, Any]) -> None:
    _seed(path, seed)
    Preset.objects.update(name="mine")
    seed["presets"][0]["title"] = "A pair"
    report = _seed(path, seed)
    assert (report.added, report.updated, report.deleted) == ([], ["preset D1: title"], [])
    assert Preset.objects.get().name == "mine"


def test_row_that_somebody_entered_before_the_seed_is_theirs(
    path: Path, seed: dict[str, Any]
) -> None:
    Model.objects.create(slug="small", name="Our own")
    report = _seed(path, seed)
    model = Model.objects.get(slug="small")
    assert (model.name, model.roles) == ("Our own", ["fast"])
    assert "model small: name" in report.kept
    assert not _seed(path, seed).updated


def test_defaults_of_a_row_that_somebody_entered_are_theirs(
    path: Path, seed: dict[str, Any]
) -> None:
    seed["models"][0]["versions"][0] |= {"kv_cells": 4096, "chat_template": "{{ messages }}"}
    TaskRoute.objects.create(task_type="code", role="coder")
    own = Model.objects.create(slug="small", name="Our own")
    own.versions.create(label="q4", file_name="small.gguf")
    report = _seed(path, seed)
    version = ModelVersion.objects.get(model=own)
    assert (version.kv_cells, version.chat_template) == (16_384, "")
    assert version.documented_memory_bytes == 2_300_000_000
    assert TaskRoute.objects.get().fallback_role == ""
    assert "task route code: fallback_role" in report.kept


def test_members_of_somebodys_own_preset_stay_as_they_are(path: Path, seed: dict[str, Any]) -> None:
    preset = Preset.objects.create(name="D1")
    model = Model.objects.create(slug="mine", name="Mine")
    member = preset.members.create(model=model, position=0)
    for _ in range(2):
        report = _seed(path, seed)
        assert "preset D1: members" in report.kept
        (row,) = preset.members.all()
        assert (row, row.model, row.role) == (member, model, member.role)


def test_member_that_somebody_added_keeps_its_place(path: Path, seed: dict[str, Any]) -> None:
    _seed(path, seed)
    preset = Preset.objects.get()
    own = preset.members.create(model=Model.objects.get(slug="large"), position=2)
    seed["presets"][0]["members"].append("small reviser")
    assert "preset member D1/2" in _seed(path, seed).kept
    kept = preset.members.get(position=2)
    assert (kept, kept.role) == (own, own.role)


def test_two_seedings_take_turns(path: Path, seed: dict[str, Any]) -> None:
    with CaptureQueriesContext(connection) as queries:
        _seed(path, seed)
    statements = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert "pg_advisory_xact_lock" in statements[0]


def test_default_of_the_seed_moves_with_it(path: Path, seed: dict[str, Any]) -> None:
    _seed(path, seed)
    seed["models"][1]["versions"].insert(
        0, {"label": "q8", "file_name": "large.q8.gguf", "sources": []}
    )
    report = _seed(path, seed)
    assert report.updated == ["default of large: q8"]
    assert ModelVersion.objects.get(model__slug="large", is_default=True).label == "q8"


def test_default_that_somebody_chose_stays(path: Path, seed: dict[str, Any]) -> None:
    _seed(path, seed)
    model = Model.objects.get(slug="large")
    own = model.versions.create(label="own", file_name="own.gguf", file_state="ready")
    set_default(own)
    seed["models"][1]["versions"].insert(
        0, {"label": "q8", "file_name": "large.q8.gguf", "sources": []}
    )
    report = _seed(path, seed)
    assert report.kept == ["default of large"]
    assert model.versions.get(is_default=True) == own


def test_a_broken_seed_file_adds_nothing(path: Path, seed: dict[str, Any]) -> None:
    del seed["presets"][0]["members"]
    with pytest.raises(KeyError):
        _seed(path, seed)
    assert not Model.objects.exists()


@pytest.mark.parametrize(
    ("current", "last", "wanted", "expected"),
    [(1, 1, 2, True), (1, 1, 1, False), (3, 1, 2, False), (2, 1, 2, False)],
)
def test_value_gives_way_only_while_it_is_the_seeds(
    current: int, last: int, wanted: int, expected: bool
) -> None:
    assert may_change(current, last, wanted) is expected
