"""The state that one model hands to the next, and its block in the prompt."""

import msgspec

_MOST_CHARACTERS = 300  # of each text in the block; the conversation has the goal in full


class HandoffState(msgspec.Struct, frozen=True, kw_only=True):
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
    answer: str = ""


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
