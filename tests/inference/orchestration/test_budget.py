"""Sections of a context, and the room of a handoff."""

from dataclasses import astuple, replace

import pytest

from inference.orchestration.budget import Sections, room_for, sections_of
from models_registry.rules.spec import ModelSpec

OF_8K = Sections(system=500, trajectory=300, handoff=1500, user_query=2000, generation=3892)
SPEC = ModelSpec("m", "m@v", "text_generation", "", "", 8192, 8192, 1)
ROW = {"system": 10, "trajectory": 10, "handoff": 20, "user_query": 20, "generation": 40}


def test_sections_without_a_budget_are_the_usual_shares():
    assert sections_of(SPEC) == OF_8K
    half = sections_of(replace(SPEC, kv_cells=4096))
    assert astuple(half) == (250, 150, 750, 1000, 1946)


def test_sections_are_those_of_the_budget():
    assert sections_of(replace(SPEC, sections=ROW)) == Sections(**ROW)


def test_sections_shrink_to_the_longest_sequence():
    assert astuple(sections_of(replace(SPEC, sections=ROW, kv_cells=50))) == (5, 5, 10, 10, 20)


@pytest.mark.parametrize(
    ("conversation", "trajectory", "max_tokens", "room"),
    [
        (2500, 300, None, 1500),
        (100, 300, None, 1500),  # the user's section is not lent
        (2500, 60, None, 1740),
        (2500, 300, 9000, 1500),
        (2500, 300, 892, 4500),
        (2500, 300, 10, 5382),
        (5000, 300, None, 1500),  # the answer shrinks to 1,392
        (7000, 300, None, 636),  # … and to 256
        (7000, 300, 100, 792),
        (8000, 300, None, 0),
    ],
)
def test_room_of_the_handoff(conversation: int, trajectory: int, max_tokens: int | None, room: int):
    found = room_for(OF_8K, conversation=conversation, trajectory=trajectory, max_tokens=max_tokens)
    assert found == room


@pytest.mark.parametrize("conversation", range(0, 9000, 500))
@pytest.mark.parametrize("max_tokens", [None, 1, 300, 4000])
def test_room_never_exceeds_the_context(conversation: int, max_tokens: int | None):
    room = room_for(OF_8K, conversation=conversation, trajectory=200, max_tokens=max_tokens)
    least = min(max_tokens or 3892, 256)
    assert room == 0 or conversation + 200 + room + least <= 8192
