"""The state that one model hands to the next, and its block in the prompt."""

import re
from typing import Literal

import msgspec

from inference.errors import HandoffStateInvalidError

_MOST_CHARACTERS = 300  # of each text in the block; the conversation has the goal in full


class HandoffState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Knowledge that one step passes to the next; steps count from 1, and 0 is before the first."""

    request_id: str
    goal: str
    current_step: int
    total_steps: int
    constraints: tuple[str, ...] = ()
    decisions_made: tuple[str, ...] = ()
    evidence_refs: tuple[str, ...] = ()
    active_errors: tuple[str, ...] = ()
    resolved_errors: tuple[str, ...] = ()
    compressed_context: str | None = None
    v: Literal[1] = 1
    answer: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.current_step <= self.total_steps:
            raise ValueError(f"wrong field `current_step`: {self.current_step}/{self.total_steps}")


def encoded(state: HandoffState) -> bytes:
    """The state as JSON that Postgres takes."""

    def value(of: object) -> object:
        if isinstance(of, tuple):
            return [storable(text) for text in of]
        return storable(of) if isinstance(of, str) else of

    fields = msgspec.structs.asdict(state).items()
    return msgspec.json.encode({name: value(field) for name, field in fields})


def decoded(data: bytes) -> HandoffState:
    """The state that ``encoded`` gave; raises ``HandoffStateInvalidError``, which names a field."""
    try:
        return msgspec.json.decode(data, type=HandoffState)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        field = re.search(r"(?:field|at) `(?:\$\.)?(\w+)", str(error))
        raise HandoffStateInvalidError(
            f"The state between two steps is invalid: {error}.",
            details={"field": field[1] if field else ""},
        ) from error


def storable(text: str) -> str:
    """The text without NUL and halves of surrogate pairs, which Postgres refuses."""
    return text.replace("\0", "␀").encode("utf-8", "replace").decode()


def trajectory(state: HandoffState, step_name: str, next_task: str, forbidden: str) -> str:
    """The block that tells a model where it is in a run of several steps."""
    decisions = "; ".join(_line(decision) for decision in state.decisions_made)
    return (
        "## Current Position\n"
        f"- Goal: {_line(state.goal)}\n"
        f"- Step: {state.current_step}/{state.total_steps} - {step_name}\n"
        f"- Previous: {decisions or 'nothing'}\n"
        f"- Next: {next_task}\n"
        f"- Forbidden: {forbidden or 'nothing'}"
    )


def _line(text: str) -> str:
    """The text on one line, so that it adds no lines to the block; "…" marks a cut."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 1] + "…"
