"""The number of calls of every mode and preset is known before the first."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from inference.database import in_database
from inference.orchestration.bounds import calls_at_most
from inference.orders.resolution import Resolver
from models_registry.catalogue.seeding import SEED_FILE, seed_registry
from models_registry.models import ModelVersion
from models_registry.rules.mode_settings import CritiqueSettings
from tests.stack import database  # noqa: F401 - fixtures

CALLS = """
S1 1, S2 1, S3 1, S4 1, S5 1, S6 1, S7 1, S8 1, L1 1,
D2 5, D4 5, D7 5, D8 5, D9 5, D12 5, D14 5, D15 5, L2 5, L6 5,
D3 7, D10 7, D13 7, T4 10, T8 10, Q4 13, P3 16, L3 7, L7 7,
T2 4, T7 4, T9 4, Q1 5, Q3 5, Q5 5, Q7 5, P1 6, P4 8, P6 9, L4 4, L8 4,
D1 2, D5 2, D6 2, D11 2, T1 3, T3 3, T5 3, T6 3, T10 3, T11 3, T12 3, T13 3,
Q2 4, Q6 4, P2 5, P5 7, L5 3, L9 2
"""


def predicted(entry: dict[str, Any]) -> int:
    """By the table of modes, from the members and settings in the seed alone."""
    settings = entry.get("settings", {})
    members = len(entry["members"])
    rounds = settings.get("max_rounds", {"critique": 2, "debate": 3}.get(entry["mode"]))
    return {
        "single": lambda: 1,
        "critique": lambda: 1 + 2 * rounds,
        "debate": lambda: members * rounds + 1,
        "ensemble": lambda: members + 1,
        "pipeline": lambda: members,
    }[entry["mode"]]()


async def test_every_preset_has_its_predicted_number_of_calls(
    database: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    await in_database(seed_registry)
    await in_database(ModelVersion.objects.update, file_state="ready")
    resolver = Resolver(Path("/models"))
    found = {}
    entries = yaml.safe_load(SEED_FILE.read_text())["presets"]
    for entry in entries:
        name, mode = entry["name"], entry["orchestration_mode"]
        cast = await resolver.cast(name)
        found[name] = 1 if cast is None else calls_at_most(cast, cast.settings)
        print(f"{name:4} {mode:9} {found[name]:3}  {', '.join(entry['members'])}")
        assert found[name] == predicted({**entry, "mode": mode}), name
        assert (cast is None) == (mode == "single")
    assert len(found) == 58
    assert found == {
        name: int(calls)
        for name, calls in (item.split() for item in CALLS.replace("\n", " ").split(","))
    }


async def test_bound_follows_the_rounds_that_are_asked(
    database: None,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    await in_database(seed_registry)
    await in_database(ModelVersion.objects.update, file_state="ready")
    cast = await Resolver(Path("/models")).cast("smollm2-135m", mode="critique")
    assert cast is not None
    assert calls_at_most(cast, CritiqueSettings(max_rounds=10)) == 21
