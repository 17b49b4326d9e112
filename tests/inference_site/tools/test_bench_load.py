from dataclasses import replace

import pytest

from inference_site.tools.bench.load import LOADS, Background, Load, LoadError


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"requests": 0}, "--requests"),
        ({"prompt_tokens": 5}, "--prompt-tokens"),
        ({"concurrency": 0}, "--concurrency"),
        ({"temperature": 3.0}, "--temperature"),
        ({"priority": 4}, "--priority"),
        ({"requests": 10, "turns": 3}, "--requests 10"),
        ({"prefixes": 2}, "--shared-prefix-tokens"),
        ({"shared_prefix_tokens": 3}, "--shared-prefix-tokens"),
        ({"endpoint": "completions", "turns": 2}, "--endpoint chat"),
        ({"concurrency": 8, "arrival_rate_per_second": 1.0}, "not both"),
        ({"concurrency": None}, "not both"),
        ({"concurrency": None, "arrival_rate_per_second": 0.0}, "--arrival-rate"),
    ],
)
def test_load_refuses_contradictions_and_names_the_option(changes, option):
    with pytest.raises(LoadError, match=option):
        replace(Load(), **changes)


def test_load_counts_conversations_and_the_cells_they_fill():
    load = Load(requests=12, turns=3, concurrency=2, prompt_tokens=40, output_tokens=8)
    assert load.conversations == 4
    assert load.longest_conversation_tokens == 3 * (40 + 8 + 32)
    assert load.peak_tokens == 2 * 240
    beside = replace(load, background=Background(4, 60, 100, None))
    assert beside.peak_tokens == 2 * 240 + 4 * (60 + 100 + 32)


def test_open_loop_has_no_known_peak():
    assert Load(concurrency=None, arrival_rate_per_second=2.0).peak_tokens is None


def test_requested_prompt_grows_with_the_conversation():
    load = Load(requests=2, turns=2, shared_prefix_tokens=100, prompt_tokens=40, output_tokens=8)
    assert [load.requested_prompt_tokens(turn) for turn in (0, 1)] == [140, 188]


def test_named_loads_carry_their_own_names():
    assert {name: load.name for name, load in LOADS.items()} == {name: name for name in LOADS}
    assert {"unshared-8", "shared-8", "shared-16", "personas", "multi-turn", "single"} <= set(LOADS)
