"""How a generation ends, and what it may say before."""

import pytest

from inference.messages import Delta, Failed, Finished, SamplingParameters, Usage
from tests.inference.engine.fake_backend import END_OF_GENERATION
from tests.inference.engine.generations import (
    GREEDY,
    alone,
    complete,
    ending,
    fake_engine,
    generation,
    saying,
    text_of,
    tokens_of,
)


@pytest.mark.parametrize(
    ("fields", "text", "reason", "tokens"),
    [
        pytest.param({"max_tokens": 5}, "one t", "length", 5, id="max-tokens"),
        pytest.param({"max_tokens": 40}, "one two three", "stop", 14, id="end-token"),
        pytest.param({"max_tokens": 13}, "one two three", "length", 13, id="just-enough"),
        pytest.param({"stop": ("two",)}, "one ", "stop", 7, id="stop"),
        pytest.param({"stop": (" th", "two")}, "one ", "stop", 7, id="first-of-two-stops"),
        pytest.param({"stop": ("threes",)}, "one two three", "stop", 14, id="half-a-stop"),
        pytest.param({"stop": ("two",), "max_tokens": 6}, "one tw", "length", 6, id="cut-in-stop"),
    ],
)
def test_engine_ends_a_generation(fields, text, reason, tokens):
    engine, backend = fake_engine(next_token=saying("one two three"))
    frames = complete(engine, generation(**{"max_tokens": 40, **fields}))["g"]
    end = ending(frames)
    assert text_of(frames) == text
    computed = {"computed_prompt_tokens": 6, "computed_completion_tokens": tokens}
    assert (end.reason, end.usage) == (reason, Usage(6, tokens, **computed))
    assert backend.samplers_open == 0


def test_engine_shows_a_character_only_whole():
    engine, _ = fake_engine(next_token=saying("a🙂b"))
    frames = complete(engine, generation(max_tokens=9))["g"]
    shown = [frame.text for frame in frames if isinstance(frame, Delta)]
    assert shown == ["a", "", "", "", "🙂", "b"]


def test_engine_goes_on_after_the_end_token_when_asked():
    engine, _ = fake_engine(next_token=saying("ab"))
    frames = complete(engine, generation(max_tokens=5, ignore_eos=True))["g"]
    assert text_of(frames) == "ab"
    assert tokens_of(frames) == [*b"ab", *[END_OF_GENERATION] * 3]
    assert ending(frames).reason == "length"


def test_engine_logit_bias_forces_and_bans_tokens():
    engine, _ = fake_engine(next_token=saying("aaa"))
    bias = {ord("z"): 100.0}
    forced = generation("forced", sampling=SamplingParameters(temperature=0.0, logit_bias=bias))
    banned = generation(
        "banned",
        max_tokens=1,
        sampling=SamplingParameters(temperature=0.0, logit_bias={ord("a"): -100.0}),
    )
    frames = complete(engine, forced, banned)
    assert text_of(frames["forced"]) == "z" * 8
    assert "a" not in text_of(frames["banned"])


def test_engine_same_seed_says_the_same_and_another_does_not():
    def sampled(seed: int) -> list[int]:
        engine, _ = fake_engine()
        sampling = SamplingParameters(temperature=3.0, seed=seed)
        frames = complete(engine, generation(max_tokens=20, sampling=sampling, ignore_eos=True))
        return tokens_of(frames["g"])

    assert sampled(1) == sampled(1) != sampled(2)


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "message"),
    [
        ("", 1, "prompt has 0 tokens"),
        (
            "x" * 60,
            5,
            "the answer up to 5. Together they must fit into 64 KV cells",
        ),
        ("x" * 65, 1, "Shorten the prompt"),
    ],
)
def test_engine_fails_a_generation_that_can_never_fit(prompt, max_tokens, message):
    engine, _ = fake_engine(kv_cells=64)
    ((id_, frame),) = engine.submit(generation("big", prompt, max_tokens=max_tokens))
    assert id_ == "big"
    assert isinstance(frame, Failed)
    assert frame.code == "context_length_exceeded"
    assert message in frame.message
    assert engine.is_idle


def test_engine_runs_a_generation_that_just_fits():
    engine, _ = fake_engine(kv_cells=64)
    item = generation(prompt="x" * 60, max_tokens=4, sampling=GREEDY)
    frames = complete(engine, item)["g"]
    assert text_of(frames) == alone(item)
    assert isinstance(frames[-1], Finished)
