from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from random import Random

import pytest

from inference_site.tools.bench.load import Load
from inference_site.tools.bench.plan import (
    INSTRUCTION,
    INSTRUCTION_TOKENS,
    OPENING_WORDS,
    PlanKey,
    arrival_times,
    background_conversations,
    conversations,
    warmup_conversations,
)
from inference_site.tools.bench.words import WORDS

KEY = PlanKey(seed=1, nonce="abc", part="single")


def word_tokens(message: str) -> int:
    """Tokens of a message, each word being one, and the full stop after the words."""
    return len(message.removesuffix(INSTRUCTION).split()) + 1 + INSTRUCTION_TOKENS


def test_words_are_distinct_and_plain():
    assert len(set(WORDS)) == len(WORDS) > 700
    assert all(word.isascii() and word.isalpha() and word.islower() for word in WORDS)


def test_plan_is_the_same_for_the_same_key():
    load = Load(requests=4, shared_prefix_tokens=50, prefixes=2)
    assert conversations(load, KEY) == conversations(load, KEY)


@pytest.mark.parametrize("change", [{"seed": 2}, {"nonce": "abd"}, {"part": "pair-1"}])
def test_plan_shares_no_opening_between_keys(change):
    load = Load(requests=8, shared_prefix_tokens=50, prefixes=2)
    here = {item.system for item in conversations(load, KEY)}
    there = {item.system for item in conversations(load, replace(KEY, **change))}
    assert not here & there


def test_unshared_prompts_begin_differently_and_have_the_length_asked_for():
    made = conversations(Load(requests=50, prompt_tokens=60), KEY)
    assert len({item.system for item in made}) == 50
    for item in made:
        assert len(item.system.split()) == OPENING_WORDS
        assert OPENING_WORDS + word_tokens(item.user_messages[0]) == 60


def test_shared_prefix_is_common_and_the_rest_is_not():
    made = conversations(Load(requests=6, shared_prefix_tokens=80, prompt_tokens=32), KEY)
    assert {len(item.system.split()) for item in made} == {80}
    assert len({item.system for item in made}) == 1
    assert len({item.user_messages for item in made}) == 6
    assert {word_tokens(item.user_messages[0]) for item in made} == {32}


def test_personas_come_equally_often_in_random_order():
    load = Load(requests=40, shared_prefix_tokens=50, prefixes=4)
    systems = [item.system for item in conversations(load, KEY)]
    assert sorted(Counter(systems).values()) == [10, 10, 10, 10]
    assert systems[:4] * 10 != systems


def test_conversations_have_a_message_for_each_turn():
    made = conversations(Load(requests=6, turns=3, prompt_tokens=40), KEY)
    assert [len(item.user_messages) for item in made] == [3, 3]
    assert [word_tokens(message) for message in made[0].user_messages[1:]] == [40, 40]


def test_arrival_times_are_a_poisson_process():
    times = arrival_times(4.0, 4000, Random(3))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert times[0] == 0.0
    assert min(gaps) >= 0
    assert mean == pytest.approx(0.25, rel=0.05)
    # An exponential distribution's standard deviation is its mean.
    assert (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5 == pytest.approx(
        mean, rel=0.1
    )


def test_arrivals_depend_on_the_seed_and_not_on_the_nonce():
    load = Load(requests=5, concurrency=None, arrival_rate_per_second=2.0)

    def times(key):
        return [item.arrival_seconds for item in conversations(load, key)]

    assert times(KEY) == times(replace(KEY, nonce="other"))
    assert times(KEY) != times(replace(KEY, seed=2))


def test_closed_loop_conversations_have_no_arrival_time():
    assert {item.arrival_seconds for item in conversations(Load(requests=3), KEY)} == {None}


def test_warmup_shares_nothing_with_what_is_measured():
    load = Load(requests=6, turns=3, shared_prefix_tokens=50, warmup=2)
    warm = warmup_conversations(load, KEY)
    assert [len(item.user_messages) for item in warm] == [1, 1]
    assert not {item.system for item in warm} & {item.system for item in conversations(load, KEY)}
    assert warmup_conversations(replace(load, warmup=0), KEY) == []


def test_background_conversations_do_not_end_or_repeat():
    made = list(islice(background_conversations(60, KEY), 100))
    assert len({item.system for item in made}) == 100
    assert OPENING_WORDS + word_tokens(made[0].user_messages[0]) == 60
