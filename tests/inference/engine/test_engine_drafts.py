"""Guessed tokens change how soon an answer comes, and nothing else."""

import random
from collections.abc import Callable

import pytest

from inference.engine.config import EngineConfig
from inference.engine.drafting.drafter import Draft, DraftRequest
from inference.engine.engine import Engine
from inference.messages import Generation, SamplingParameters
from tests.inference.engine.fake_backend import FakeBackend, letter_after
from tests.inference.engine.generations import (
    GREEDY,
    MANY_STEPS,
    alone,
    by_id,
    complete,
    drain,
    ending,
    generation,
    saying,
    text_of,
    tokens_of,
)

ANSWER = "one two three four five six seven eight nine ten"


class Guesser:
    """Guesses what the fake says, right so often as it is told."""

    top_grade = 0
    is_free = True

    def __init__(self, right: float) -> None:
        self._right = right
        self._draw = random.Random(4)
        self.next_token: Callable[[list[int]], int] = letter_after
        self.known: set[object] = set()

    def seconds(self, tokens: int, rounds: int) -> float:
        """Nothing."""
        return 0.0

    def propose(self, requests: list[DraftRequest]) -> list[Draft]:
        """A full draft for each."""
        return [self._draft(request) for request in requests]

    def _draft(self, request: DraftRequest) -> Draft:
        self.known.add(request.key)
        history = list(request.token_ids)
        for _ in range(request.tokens):
            right = self._draw.random() < self._right
            history.append(self.next_token(history) if right else ord("!"))
        guesses = history[len(request.token_ids) :]
        return Draft(guesses, [0] * len(guesses))

    def forget(self, key: object) -> None:
        """Remember that it was told."""
        self.known.discard(key)

    def close(self) -> None:
        """Nothing to free."""


def drafting_engine(right: float, kv_cells: int = 400) -> tuple[Engine, FakeBackend, Guesser]:
    backend = FakeBackend(kv_cells)
    drafter = Guesser(right)
    config = EngineConfig(kv_cells, 4, 64)
    return Engine(backend, config, clock=lambda: 0.0, drafter=drafter), backend, drafter


def plain(*wanted: Generation, kv_cells: int = 400) -> dict[str, list[int]]:
    engine = Engine(FakeBackend(kv_cells), EngineConfig(kv_cells, 4, 64))
    return {id_: tokens_of(frames) for id_, frames in complete(engine, *wanted).items()}


@pytest.mark.parametrize("right", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("kv_cells", [400, 64])
@pytest.mark.parametrize(
    "sampling", [GREEDY, SamplingParameters(temperature=1.0, seed=3, repeat_penalty=1.1)]
)
def test_engine_says_the_same_with_any_guesses(right, kv_cells, sampling):
    wanted = [
        generation(f"g{n}", "same" * n + str(n), max_tokens=40, sampling=sampling, ignore_eos=True)
        for n in range(4)
    ]
    engine, backend, drafter = drafting_engine(right, kv_cells)
    outputs = [output for item in wanted for output in engine.submit(item)]
    for _ in range(MANY_STEPS):
        if engine.is_idle:
            break
        outputs += engine.step()
        engine.check_integrity()
        assert backend.used_cells == engine.used_cells <= kv_cells
    frames = by_id(outputs)
    assert {id_: tokens_of(mine) for id_, mine in frames.items()} == plain(
        *wanted, kv_cells=kv_cells
    )
    for item in wanted:
        usage = ending(frames[item.id]).usage
        assert usage.completion_tokens == 40
        assert usage.accepted_tokens <= usage.drafted_tokens
    assert (backend.samplers_open, drafter.known) == (0, set())


def test_engine_takes_fewer_steps_with_right_guesses():
    engine, backend, _ = drafting_engine(1.0)
    frames = complete(engine, generation(max_tokens=40))["g"]
    assert text_of(frames) == alone(generation(max_tokens=40))
    usage = ending(frames).usage
    assert usage.accepted_tokens == usage.drafted_tokens
    assert len(backend.decoded_batches) == 40 - usage.accepted_tokens < 20


@pytest.mark.parametrize(("sequences", "guesses"), [(2, True), (3, False)])
def test_engine_guesses_only_while_few_sequences_run(sequences, guesses):
    config = EngineConfig(400, 4, 64, max_drafting_sequences=2)
    engine = Engine(FakeBackend(400), config, clock=lambda: 0.0, drafter=Guesser(1.0))
    wanted = [generation(f"g{n}", f"same{n}", ignore_eos=True) for n in range(sequences)]
    endings = [ending(frames) for frames in complete(engine, *wanted).values()]
    assert {bool(end.usage.drafted_tokens) for end in endings} == {guesses}


@pytest.mark.parametrize(
    ("stop", "max_tokens", "tokens"),
    [
        pytest.param(("four",), 99, 18, id="stop-among-guesses"),
        pytest.param((), 99, len(ANSWER) + 1, id="end-token-among-guesses"),
        pytest.param((), 20, 20, id="length"),
    ],
)
def test_engine_ends_among_right_guesses_as_without_them(stop, max_tokens, tokens):
    item = generation(max_tokens=max_tokens, stop=stop)
    engine, backend, drafter = drafting_engine(1.0)
    backend.next_token = drafter.next_token = saying(ANSWER)
    frames = complete(engine, item)["g"]
    usage = ending(frames).usage
    assert usage.completion_tokens == tokens
    assert usage.accepted_tokens == usage.completion_tokens - len(backend.decoded_batches) > 0
    undrafted = Engine(FakeBackend(400, saying(ANSWER)), EngineConfig(400, 4, 64))
    assert text_of(frames) == text_of(complete(undrafted, item)["g"])
    assert backend.used_cells == engine.used_cells
    # What follows can share the answer up to the token before its last.
    begin = len(backend.decoded_batches)
    again = generation("again", b"prompt" + ANSWER.encode()[: tokens - 1] + b"??", max_tokens=1)
    engine.submit(again)
    drain(engine)
    engine.check_integrity()
    computed = sum(len(span.token_ids) for span in backend.decoded_batches[begin])
    assert computed == len(again.prompt_token_ids) - len("prompt") - (tokens - 1)


def test_engine_loses_nothing_when_a_decode_with_guesses_is_aborted():
    engine, backend, _ = drafting_engine(0.7)
    decodes = 0

    def abort_every_third() -> None:
        nonlocal decodes
        decodes += 1
        if decodes % 3 == 0:
            backend.abort()

    backend.while_decoding = abort_every_third
    wanted = [generation(f"g{n}", f"{n}" * 9, max_tokens=30) for n in range(3)]
    frames = complete(engine, *wanted)
    assert [text_of(frames[item.id]) for item in wanted] == [alone(item) for item in wanted]
