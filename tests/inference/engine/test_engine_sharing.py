"""Beginnings that are computed once: what is counted as cached, and that texts do not change."""

import pytest

from inference.engine.backend import BackendError
from inference.engine.scheduler import WORTH_WAITING_TOKENS
from inference.messages import SamplingParameters, Started
from tests.inference.engine.generations import (
    alone,
    by_id,
    complete,
    computed_tokens,
    drain,
    ending,
    fake_engine,
    generation,
    step_until,
    text_of,
    tokens_of,
)

SYSTEM = "You are a lighthouse keeper. "
NEW_TOKENS = 8


def prompt_tokens_computed(backend, begin: int, new_tokens: int) -> int:
    """Tokens computed since ``begin``, without ``new_tokens`` except the last of each."""
    return sum(
        len(span.token_ids) for batch in backend.decoded_batches[begin:] for span in batch
    ) - (new_tokens - 1)


@pytest.mark.parametrize(
    ("second", "cached"),
    [
        pytest.param(SYSTEM + "Tell a story.", len(SYSTEM), id="same-beginning"),
        pytest.param(SYSTEM + "Who are you?", len(SYSTEM + "Who are you?") - 1, id="the-same"),
        pytest.param("No beginning in common", 0, id="another"),
    ],
)
def test_engine_counts_as_cached_exactly_what_it_does_not_compute(second, cached):
    engine, backend = fake_engine()
    first = complete(engine, generation("first", SYSTEM + "Who are you?"))["first"]
    assert ending(first).usage.cached_tokens == 0
    begin = len(backend.decoded_batches)
    item = generation("second", second)
    frames = complete(engine, item)["second"]
    assert text_of(frames) == alone(item)
    usage = ending(frames).usage
    assert usage.cached_tokens == cached
    assert frames[0] == Started(usage.prompt_tokens, cached)
    computed = prompt_tokens_computed(backend, begin, usage.completion_tokens)
    assert usage.cached_tokens + computed == usage.prompt_tokens


def test_engine_goes_on_with_a_conversation_where_it_was():
    engine, _ = fake_engine()
    prompt = SYSTEM + "Who are you?"
    answer = text_of(complete(engine, generation("first", prompt))["first"])
    item = generation("second", prompt + answer + " Why?")
    frames = complete(engine, item)["second"]
    assert text_of(frames) == alone(item)
    # The answer's last token was never an input.
    assert ending(frames).usage.cached_tokens == len(prompt + answer) - 1


def test_engine_separates_tenants():
    engine, _ = fake_engine()
    complete(engine, generation("mine", SYSTEM, cache_salt="mine"))
    frames = complete(
        engine,
        generation("yours", SYSTEM, cache_salt="yours"),
        generation("again", SYSTEM, cache_salt="mine"),
    )
    assert ending(frames["yours"]).usage.cached_tokens == 0
    assert ending(frames["again"]).usage.cached_tokens == len(SYSTEM) - 1


@pytest.mark.parametrize("count", [2, 4, 9])
def test_engine_computes_the_prompt_of_many_choices_once(count):
    engine, backend = fake_engine(max_sequences=4)
    sampling = SamplingParameters(temperature=3.0)
    wanted = [generation(f"g{n}", SYSTEM, sampling=sampling, ignore_eos=True) for n in range(count)]
    frames = complete(engine, *wanted)
    cached = [ending(frames[item.id]).usage.cached_tokens for item in wanted]
    assert cached == [0, *[len(SYSTEM) - 1] * (count - 1)]
    steps = count * (NEW_TOKENS - 1)
    assert computed_tokens(backend) == len(SYSTEM) + (count - 1) + steps
    most_cells = len(SYSTEM) + min(count, 4) * NEW_TOKENS
    assert engine.used_cells <= most_cells + (count - 4) * NEW_TOKENS if count > 4 else most_cells


def test_engine_lets_the_second_wait_while_the_first_computes_what_both_need():
    common = SYSTEM * 3
    engine, _ = fake_engine(step_tokens=8)
    engine.submit(generation("first", common + "one"))
    engine.step()
    engine.submit(generation("second", common + "two"))
    engine.step()
    assert (engine.running_sequences, engine.waiting_sequences) == (1, 1)
    frames = by_id(drain(engine))
    cached = ending(frames["second"]).usage.cached_tokens
    assert len(common) - WORTH_WAITING_TOKENS < cached <= len(common)
    assert text_of(frames["second"]) == alone(generation("second", common + "two"))


def test_engine_admits_a_high_priority_at_once_in_place_of_those_that_share():
    """None of the low ones has many cells of its own; together they have enough."""
    engine, _ = fake_engine(kv_cells=400, max_sequences=8, step_tokens=64)
    low = [generation(f"low{n}", "s" * 200 + str(n), max_tokens=90, priority=1) for n in range(3)]
    high = generation("high", "h" * 250, max_tokens=4, priority=3)
    outputs = [output for item in low for output in engine.submit(item)]
    outputs += step_until(engine, lambda: engine.running_sequences == 3)
    outputs += engine.submit(high)
    step = engine.step()
    assert Started(250) in by_id(step)["high"]
    frames = by_id([*outputs, *step, *drain(engine)])
    for item in [*low, high]:
        assert text_of(frames[item.id]) == alone(item)
        assert ending(frames[item.id]).usage.completion_tokens == item.max_tokens


def test_engine_admits_a_continuation_of_a_preempted_answer():
    engine, _ = fake_engine(kv_cells=400, max_sequences=1)
    low = generation("low", SYSTEM, max_tokens=60, priority=1)
    outputs = engine.submit(low)
    outputs += step_until(engine, lambda: engine.used_cells > len(SYSTEM) + 30)
    high = generation("high", SYSTEM + alone(low)[:25] + "!", priority=3)
    outputs += engine.submit(high)
    frames = by_id([*outputs, *drain(engine)])
    engine.check_integrity()
    assert text_of(frames["low"]) == alone(low)
    assert text_of(frames["high"]) == alone(high)


def test_engine_forgets_no_more_of_what_is_kept_than_it_must():
    engine, backend = fake_engine(kv_cells=100)
    for letter in "abc":
        complete(engine, generation(letter, letter * 20))
    complete(engine, generation("d", "d" * 30))
    assert len(backend.decoded_batches) == 4 * NEW_TOKENS  # none for want of cells
    frames = complete(engine, generation("again", "c" * 20))["again"]
    assert ending(frames).usage.cached_tokens == 19


# --- a generation that another host began ---


def spans_of(backend) -> list[int]:
    return [len(span.token_ids) for batch in backend.decoded_batches for span in batch]


@pytest.mark.parametrize(
    ("temperature", "spans"),
    [(0.0, [len(SYSTEM), 1, 1, 1, 1, 1]), (0.001, [len(SYSTEM) + 3, 1, 1])],
)
def test_engine_goes_again_through_the_steps_of_a_greedy_answer(temperature, spans):
    """Computed in one chunk its tokens could round differently, and the text take another turn."""
    item = generation(prompt=SYSTEM, max_tokens=6)
    said = list(alone(item).encode())
    engine, backend = fake_engine(step_tokens=200)
    rest = complete(
        engine,
        generation(
            prompt=SYSTEM,
            max_tokens=6,
            sampling=SamplingParameters(temperature=temperature),
            emitted_token_ids=said[:3],
            emitted_frames=4,
        ),
    )["g"]
    assert tokens_of(rest) == said[3:]
    assert spans_of(backend) == spans


def test_engine_shares_also_what_a_continued_generation_had_said():
    engine, backend = fake_engine()
    item = generation(prompt=SYSTEM, max_tokens=30)
    said = tokens_of(complete(engine, item)["g"])
    begin = len(backend.decoded_batches)
    continued = generation(
        prompt=SYSTEM, max_tokens=30, emitted_token_ids=said[:20], emitted_frames=21
    )
    rest = complete(engine, continued)["g"]
    assert tokens_of(rest) == said[20:]
    assert len(backend.decoded_batches) - begin <= 10 + 1
    assert ending(rest).usage.cached_tokens == len(SYSTEM)


# --- what goes wrong ---


def test_engine_aborts_a_prefill_that_shares_and_keeps_the_shared_part():
    engine, backend = fake_engine(step_tokens=64)
    complete(engine, generation("kept", SYSTEM))
    aborts = 0

    def abort_once() -> None:
        nonlocal aborts
        aborts += 1
        if aborts == 1:
            backend.abort()

    backend.while_decoding = abort_once
    item = generation("g", SYSTEM + "and some more")
    begin = len(backend.decoded_batches)
    frames = complete(engine, item)["g"]
    assert text_of(frames) == alone(item)
    first, second = (backend.decoded_batches[begin + at][0] for at in (0, 1))
    assert (first.start, second.start) == (len(SYSTEM), len(SYSTEM))


def test_engine_gives_up_kept_cells_before_a_running_sequence():
    engine, backend = fake_engine(kv_cells=200, backend_cells=70)
    complete(engine, generation("kept", "k" * 40))
    wanted = [generation(f"g{n}", f"{n}" * 10, max_tokens=10) for n in range(2)]
    frames = complete(engine, *wanted)
    assert [text_of(frames[item.id]) for item in wanted] == [alone(item) for item in wanted]
    assert max(len(batch) for batch in backend.decoded_batches) == 2
    assert computed_tokens(backend) < 40 + 8 + 3 * (10 + 10)


def test_engine_gives_up_only_when_nothing_is_kept_and_one_runs():
    engine, _ = fake_engine(kv_cells=200, backend_cells=50)
    complete(engine, generation("kept", "k" * 30))
    complete(engine, generation("fits", "f" * 40))
    engine.submit(generation("big", "b" * 60))
    with pytest.raises(BackendError, match="although a single sequence runs"):
        drain(engine)


# --- a model that keeps a state in place of cells ---


def test_engine_computes_everything_for_a_recurrent_model():
    engine, backend = fake_engine(recurrent=True)
    wanted = [generation(f"g{n}", SYSTEM) for n in range(3)]
    frames = complete(engine, *wanted)
    for item in wanted:
        assert text_of(frames[item.id]) == alone(item)
        assert ending(frames[item.id]).usage.cached_tokens == 0
    assert (engine.used_cells, backend.used_cells) == (0, 0)


def test_engine_preempts_a_recurrent_model_and_begins_its_sequence_again():
    engine, backend = fake_engine(recurrent=True, kv_cells=64)
    wanted = [generation(f"g{n}", f"{n}", max_tokens=50, priority=n % 2) for n in range(4)]
    frames = complete(engine, *wanted)
    assert [text_of(frames[item.id]) for item in wanted] == [alone(item) for item in wanted]
    assert computed_tokens(backend) > 4 * 50


def test_engine_begins_the_sequences_of_a_recurrent_model_again_after_an_abort():
    engine, backend = fake_engine(recurrent=True)
    decodes = 0

    def abort_some() -> None:
        nonlocal decodes
        decodes += 1
        if decodes in (2, 7):
            backend.abort()

    backend.while_decoding = abort_some
    wanted = [generation(f"g{n}", f"{n}" * 9, max_tokens=10) for n in range(3)]
    outputs = [output for item in wanted for output in engine.submit(item)]
    while not engine.is_idle:
        outputs += engine.step()
        engine.check_integrity()
    frames = by_id(outputs)
    assert [text_of(frames[item.id]) for item in wanted] == [alone(item) for item in wanted]
