"""The presets of the seed file are those of the published tables."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
import yaml

from models_registry.catalogue.seeding import SEED_FILE
from models_registry.rules.mode_settings import read_settings
from models_registry.rules.roles import member_faults

SEED: dict[str, Any] = yaml.safe_load(SEED_FILE.read_text())
PRESETS: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in SEED["presets"]}
LARGE = [name for name in PRESETS if not name.startswith("L")]
MODES = {
    "single": "S1 S2 S3 S4 S5 S6 S7 S8",
    "critique": "D2 D4 D7 D8 D9 D12 D14 D15",
    "debate": "D3 D10 D13 T4 T8 Q4 P3",
    "ensemble": "T2 T7 T9 Q1 Q3 Q5 Q7 P1 P4 P6",
    "pipeline": "D1 D5 D6 D11 T1 T3 T5 T6 T10 T11 T12 T13 Q2 Q6 P2 P5",
}
SERVER = "S7 S8 D8 D15 T4 T5 T6 T7 T8 T9 T10 Q1 Q2 Q3 Q4 Q5 Q6 Q7 P1 P2 P3 P4 P5 P6"
ALONE = "D2 D3 D9 D10 D14 T1 T2 T13"
# Their stated size is not the sum of their members'.
MISSTATED = {"P4": "43.4", "P5": "44.6", "P6": "56.2"}


def _members(name: str) -> list[tuple[str, str]]:
    return [tuple(member.split()) for member in PRESETS[name]["members"]]


def _size(name: str) -> Decimal:
    sizes = {
        model["slug"]: Decimal(str(model["versions"][0].get("memory_gb", 0)))
        for model in SEED["models"]
    }
    return sum((sizes[slug] for slug, _ in _members(name)), Decimal(0))


def test_all_49_presets_are_there() -> None:
    assert Counter(name[0] for name in LARGE) == {"S": 8, "D": 15, "T": 13, "Q": 7, "P": 6}
    for letter, members in {"S": 1, "D": 2, "T": 3, "Q": 4}.items():
        for name in LARGE:
            assert name[0] != letter or len(_members(name)) == members


def test_modes_are_the_published_ones() -> None:
    for mode, names in MODES.items():
        found = {name for name in LARGE if PRESETS[name]["orchestration_mode"] == mode}
        assert found == set(names.split())


def test_hardware_is_the_published_one() -> None:
    found = {name: PRESETS[name]["hardware"] for name in LARGE}
    assert {name for name in LARGE if found[name] == "server"} == set(SERVER.split())
    assert {name for name in LARGE if found[name] == "laptop_alone"} == set(ALONE.split())


@pytest.mark.parametrize("name", LARGE)
def test_size_is_the_sum_of_the_members(name: str) -> None:
    stated = Decimal(str(PRESETS[name]["memory_gb"]))
    assert _size(name) == Decimal(MISSTATED.get(name, stated))


@pytest.mark.parametrize("name", PRESETS)
def test_preset_can_run(name: str) -> None:
    entry = PRESETS[name]
    mode = entry["orchestration_mode"]
    settings = read_settings(mode, SEED["mode_settings"][mode] | entry.get("settings", {}))
    assert member_faults(mode, settings, [role for _, role in _members(name)]) == []


def test_small_presets_have_every_mode_and_small_models_alone() -> None:
    small = [entry for name, entry in PRESETS.items() if name.startswith("L")]
    assert {entry["orchestration_mode"] for entry in small} == set(MODES)
    for entry in small:
        for member in entry["members"]:
            assert member.split()[0] in {"smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b"}


def test_context_budgets_are_the_published_ones_cut_to_what_the_cells_hold() -> None:
    versions = {
        model["slug"]: version
        for model in SEED["models"]
        for version in model["versions"]
        if model["type"] == "text_generation"
    }
    sections = ["system", "trajectory", "handoff", "user_query", "generation"]
    for slug, tokens, divisor in (
        ("llama-3.2-3b", [500, 300, 1500, 2000, 3892], 1),
        ("granite-8b-code-128k", [1000, 500, 4000, 32000, 93572], 2),
        ("phi-3-medium-128k", [1000, 500, 4000, 32000, 93572], 4),
    ):
        cut = [count // divisor for count in tokens]
        assert versions[slug]["context_budget"] == dict(zip(sections, cut, strict=True))
    for version in versions.values():
        limit = min(version["context_length_tokens"], version["kv_cells"])
        assert sum(version["context_budget"].values()) == limit
