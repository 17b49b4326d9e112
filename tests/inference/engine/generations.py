"""Generations over the fake backend, and what each must say when it runs alone."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from inference.engine.config import EngineConfig
from inference.engine.engine import Engine, Output
from inference.engine.sequence import NO_SLOT, Sequence
from inference.messages import (
    TERMINAL,
    Delta,
    Finished,
    Frame,
    Generation,
    SamplingParameters,
)
from tests.inference.engine.fake_backend import END_OF_GENERATION, FakeBackend, letter_after

GREEDY = SamplingParameters(temperature=0.0)
MANY_STEPS = 5000


class RecurrentFake(FakeBackend):
    """A model with a state in place of cells, which cannot be cut or shared."""

    recurrent = True

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Refuse."""
        raise AssertionError(f"sequence {source} has no {start} to {end} to share")

    def truncate(self, sequence_id: int, length: int) -> None:
        """Forget the sequence, or refuse."""
        if length:
            raise AssertionError(f"sequence {sequence_id} cannot be cut at {length}")
        super().truncate(sequence_id, 0)


def generation(
    id_: str = "g",
    prompt: str | bytes = "prompt",
    *,
    max_tokens: int = 8,
    sampling: SamplingParameters = GREEDY,
    **fields: Any,
) -> Generation:
    """A generation whose prompt is given as text, a token a byte."""
    data = prompt.encode() if isinstance(prompt, str) else prompt
    return Generation(
        id=id_,
        version_key="fake:1",
        prompt_token_ids=list(data),
        max_tokens=max_tokens,
        sampling=sampling,
        **fields,
    )


def sequence(
    prompt_tokens: int = 4,
    output_tokens: int = 0,
    *,
    computed_tokens: int = 0,
    arrival: int = 0,
    sequence_id: int = NO_SLOT,
    prompt: bytes | None = None,
    **fields: Any,
) -> Sequence:
    """A sequence in the middle of its life, for pure decisions over counts.

    It shares nothing; its prompt begins as no other's does, unless one is given.
    """
    if prompt is None:
        prompt = bytes([arrival]) * prompt_tokens
    result = Sequence(generation(f"s{arrival}", prompt, **fields), arrival, now=0.0)
    result.token_ids += [0] * output_tokens
    result.computed_tokens = result.own_cells = computed_tokens
    result.unpinned_tokens = len(result.token_ids)
    result.sequence_id = sequence_id
    return result


def fake_engine(
    *,
    kv_cells: int = 256,
    max_sequences: int = 4,
    step_tokens: int = 32,
    prefill_budget_tokens: int = 8,
    backend_cells: int | None = None,
    next_token: Callable[[list[int]], int] = letter_after,
    recurrent: bool = False,
    clock: Callable[[], float] = time.monotonic,
    **fields: Any,
) -> tuple[Engine, FakeBackend]:
    """An engine, and the fake under it with as many cells unless told otherwise."""
    kind = RecurrentFake if recurrent else FakeBackend
    backend = kind(backend_cells or kv_cells, next_token)
    config = EngineConfig(
        kv_cells,
        max_sequences,
        step_tokens,
        prefill_budget_tokens,
        shares_prefixes=not recurrent,
        **fields,
    )
    return Engine(backend, config, clock), backend


def saying(text: str, prompt: str = "prompt") -> Callable[[list[int]], int]:
    """A ``next_token`` that answers one prompt with a text and then ends."""
    data = text.encode()

    def next_token(history: list[int]) -> int:
        at = len(history) - len(prompt.encode())
        return data[at] if at < len(data) else END_OF_GENERATION

    return next_token


def alone(wanted: Generation) -> str:
    """The greedy text of a generation, computed without an engine."""
    history = list(wanted.prompt_token_ids)
    while len(history) < len(wanted.prompt_token_ids) + wanted.max_tokens:
        history.append(letter_after(history))
    return bytes(history[len(wanted.prompt_token_ids) :]).decode()


def drain(engine: Engine) -> list[Output]:
    """Step until idle."""
    outputs: list[Output] = []
    for _ in range(MANY_STEPS):
        if engine.is_idle:
            return outputs
        outputs += engine.step()
    raise AssertionError(f"still busy after {MANY_STEPS} steps")


def step_until(engine: Engine, condition: Callable[[], bool]) -> list[Output]:
    """Step until ``condition`` holds."""
    outputs: list[Output] = []
    for _ in range(MANY_STEPS):
        if condition():
            return outputs
        outputs += engine.step()
    raise AssertionError(f"condition not met in {MANY_STEPS} steps")


def complete(engine: Engine, *wanted: Generation) -> dict[str, list[Frame]]:
    """Run generations to their ends together; the frames of each."""
    outputs = [output for item in wanted for output in engine.submit(item)]
    frames = by_id([*outputs, *drain(engine)])
    engine.check_integrity()
    return frames


def by_id(outputs: Iterable[Output]) -> dict[str, list[Frame]]:
    """Frames of each generation, in order."""
    frames: dict[str, list[Frame]] = {}
    for id_, frame in outputs:
        frames.setdefault(id_, []).append(frame)
    return frames


def text_of(frames: Iterable[Frame]) -> str:
    """The text that a client has seen."""
    return "".join(frame.text for frame in frames if isinstance(frame, Delta))


def tokens_of(frames: Iterable[Frame]) -> list[int]:
    """The token ids that a client has seen."""
    return [token for frame in frames if isinstance(frame, Delta) for token in frame.token_ids]


def ending(frames: list[Frame]) -> Finished:
    """The one ``Finished``, after checking that it is the last frame and the only terminal one."""
    terminal = [frame for frame in frames if isinstance(frame, TERMINAL)]
    assert terminal == frames[-1:], frames
    assert isinstance(frames[-1], Finished), frames[-1]
    return frames[-1]


def computed_tokens(backend: FakeBackend) -> int:
    """Tokens that went through the model in all decodes."""
    return sum(len(span.token_ids) for batch in backend.decoded_batches for span in batch)
