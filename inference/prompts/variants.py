"""Reworded conversations, for templates that refuse the original: pure."""

from collections.abc import Iterator, Sequence
from typing import Any

Messages = Sequence[dict[str, Any]]


def variants(messages: Messages) -> Iterator[Messages]:
    """The conversation and rewordings of it, closest first.

    Arguments of calls become objects; system messages move into the user's next turn.
    """
    yield messages
    reworded = [_with_objects(message) for message in messages]
    if reworded != messages:
        yield reworded
    for kept in (1, 0):
        merged = _merged(reworded, kept)
        if merged != reworded:
            yield merged


def instructions_to_check(messages: Messages) -> list[str]:
    """System texts that a template may leave out: all, if one is in mid-conversation."""
    if all(message["role"] != "system" for message in messages[1:]):
        return []
    return [message["content"] for message in messages if message["role"] == "system"]


def is_rendered(text: str, rendered: str) -> bool:
    """Whether ``rendered`` contains a line of ``text``; most templates trim texts."""
    lines = [line.strip() for line in text.splitlines()]
    return not any(lines) or any(line and line in rendered for line in lines)


def _with_objects(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return message
    return message | {
        "tool_calls": [
            call
            if isinstance(arguments := call["function"]["arguments"], dict)
            else call | {"function": call["function"] | {"arguments": {"arguments": arguments}}}
            for call in calls
        ]
    }


def _merged(messages: Messages, kept: int) -> list[dict[str, Any]]:
    """Move system messages after the first ``kept`` into the user's next or previous turn."""
    merged: list[dict[str, Any]] = list(messages[:kept])
    waiting: list[str] = []
    for message in messages[kept:]:
        if message["role"] == "system":
            waiting.append(message["content"])
            continue
        if waiting and message["role"] == "user":
            message = message | {"content": "\n".join([*waiting, message["content"]])}
        elif waiting:
            _add_for_user(merged, waiting)
        waiting = []
        merged.append(message)
    if waiting:
        _add_for_user(merged, waiting)
    return merged


def _add_for_user(merged: list[dict[str, Any]], texts: list[str]) -> None:
    if merged and merged[-1]["role"] == "user":
        text = "\n".join([merged[-1]["content"], *texts])
        merged[-1] = merged[-1] | {"content": text}
    else:
        merged.append({"role": "user", "content": "\n".join(texts)})
