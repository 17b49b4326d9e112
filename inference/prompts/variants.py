"""A conversation in other words, for templates that refuse it as it is: pure."""

from collections.abc import Iterator, Sequence
from typing import Any

Messages = Sequence[dict[str, Any]]


def variants(messages: Messages) -> Iterator[Messages]:
    """Ways to tell a conversation, the faithful one first.

    A call's arguments that are no object become one, instructions in mid-conversation a part of
    the user's turn, and those at its beginning, too.
    """
    yield messages
    told = [_with_objects(message) for message in messages]
    if told != messages:
        yield told
    for kept in (1, 0):
        merged = _merged(told, kept)
        if merged != told:
            yield merged


def instructions_at_risk(messages: Messages) -> list[str]:
    """Texts of the system messages, where there is one in mid-conversation.

    Some templates leave that out, others keep only the last of all.
    """
    if all(message["role"] != "system" for message in messages[1:]):
        return []
    return [message["content"] for message in messages if message["role"] == "system"]


def is_heard(text: str, rendered: str) -> bool:
    """Whether a line of a text is in what a template made; most templates trim it."""
    lines = [line.strip() for line in text.splitlines()]
    return not any(lines) or any(line and line in rendered for line in lines)


def _with_objects(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return message
    return message | {
        "tool_calls": [
            call | {"function": call["function"] | {"arguments": _object(call["function"])}}
            for call in calls
        ]
    }


def _object(function: dict[str, Any]) -> dict[str, Any]:
    arguments = function["arguments"]
    return arguments if isinstance(arguments, dict) else {"arguments": arguments}


def _merged(messages: Messages, kept: int) -> list[dict[str, Any]]:
    """Messages with each system message, but the first ``kept``, in the user's turn after it.

    Without one, it becomes the end of the turn before it, or a turn of its own.
    """
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
