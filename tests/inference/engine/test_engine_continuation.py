"""A generation that another host began: the client gets exactly the rest."""

import pytest

from inference.messages import Delta, Generation, SamplingParameters, Started
from tests.inference.engine.generations import (
    complete,
    ending,
    fake_engine,
    generation,
    saying,
    text_of,
    tokens_of,
)

ANSWER = "naïve 🙂 stop sto!"


def continued(item: Generation, emitted_token_ids: list[int]) -> Generation:
    fields = {name: getattr(item, name) for name in item.__struct_fields__}
    frames = 1 + len(emitted_token_ids)
    fields.update(emitted_token_ids=emitted_token_ids, emitted_frames=frames)
    return Generation(**fields)


@pytest.mark.parametrize("stop", [(), ("stop!",), ("sto!",)])
@pytest.mark.parametrize("emitted", [0, 1, 3, 4, 7, 9, 13, 14, 16, 20])
def test_engine_continues_with_exactly_the_rest(emitted, stop):
    item = generation(max_tokens=40, stop=stop)
    engine, _ = fake_engine(next_token=saying(ANSWER))
    whole = complete(engine, item)["g"]
    deltas = [frame for frame in whole if isinstance(frame, Delta) and frame.token_ids]

    engine, backend = fake_engine(next_token=saying(ANSWER))
    rest = complete(engine, continued(item, tokens_of(deltas[:emitted])))["g"]
    assert text_of(deltas[:emitted]) + text_of(rest) == text_of(whole)
    assert tokens_of(rest) == tokens_of(deltas[emitted:])
    told, all_told = ending(rest).usage, ending(whole).usage
    assert told.prompt_tokens == all_told.prompt_tokens == told.computed_prompt_tokens
    assert told.completion_tokens == all_told.completion_tokens
    assert told.computed_completion_tokens == all_told.completion_tokens - emitted
    assert not any(isinstance(frame, Started) for frame in rest)
    assert backend.samplers_open == 0


def test_engine_starts_again_when_only_the_claim_was_lost():
    engine, _ = fake_engine(next_token=saying("ab"))
    frames = complete(engine, continued(generation(), []))["g"]
    assert text_of(frames) == "ab"
    assert not any(isinstance(frame, Started) for frame in frames)


@pytest.mark.parametrize(
    ("fields", "emitted", "reason"),
    [({"max_tokens": 3}, "abc", "length"), ({"stop": ("bc",)}, "abc", "stop")],
)
def test_engine_ends_at_once_what_had_ended_but_for_its_last_frame(fields, emitted, reason):
    engine, backend = fake_engine(next_token=saying("abcdef"))
    item = continued(generation(**fields), list(emitted.encode()))
    frames = complete(engine, item)["g"]
    assert ending(frames).reason == reason
    assert ending(frames).usage.completion_tokens == 3
    assert text_of(frames) == ""
    assert backend.decoded_batches == []


def test_engine_gives_the_held_text_of_a_continued_generation_that_is_over():
    engine, _ = fake_engine()
    item = continued(generation(max_tokens=3, stop=("cd",)), list(b"abc"))
    assert text_of(complete(engine, item)["g"]) == "c"


def test_engine_draws_other_numbers_after_a_continuation():
    """A sampler that began again at its seed would repeat the first draws."""
    sampling = SamplingParameters(temperature=50.0, seed=7)
    item = generation(max_tokens=12, sampling=sampling, ignore_eos=True)
    engine, _ = fake_engine()
    first = tokens_of(complete(engine, item)["g"])[:6]
    engine, _ = fake_engine()
    rest = tokens_of(complete(engine, continued(item, first))["g"])
    assert len(rest) == 6
    assert rest != first
