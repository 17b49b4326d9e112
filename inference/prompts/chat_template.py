"""Render a model's Jinja chat template: sandboxed, and with user text marked as text.

A template and the words of a user end up in one string in which ``<|im_start|>`` from the one
cannot be told from the other. So the control tokens of the vocabulary are replaced in all user
text before rendering, each by a stand-in made of characters that no text may contain, and are put
back afterwards as pieces which the tokeniser is to read as plain text.
"""

import datetime
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models_registry.chat_templates import TEMPLATE_EXTENSIONS

# Unicode noncharacters: valid in memory, never in interchanged text.
OPEN, CLOSE, END = "\ufdd0", "\ufdd1", "\ufdd2"
_STAND_IN = re.compile(f"{OPEN}(\\d+){CLOSE}")
MAX_RENDERED_CHARACTERS = 4_000_000
MAX_REASON_CHARACTERS = 300


Scalar = str | int | float | bool | None


class TemplateFailedError(Exception):
    """The template could not be rendered; the message is fit for the client."""


def render(
    template: str,
    messages: Sequence[dict[str, Any]],
    control_tokens: Sequence[str],
    *,
    tools: Sequence[dict[str, Any]] | None = None,
    variables: Mapping[str, Scalar] | None = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    bos_token: str = "",
    eos_token: str = "",
) -> list[tuple[str, bool]]:
    """Render a conversation.

    Args:
        template: Jinja source.
        messages: dicts with ``role`` and ``content``, and whatever else the template reads.
        control_tokens: strings that mean something to the model and must stay plain in user text.
        tools: functions that the model may call, as the template's variable of this name.
        variables: further variables of the template.
        add_generation_prompt: end with the opening of the assistant's turn.
        continue_final_message: end with the text of the last message, which is the assistant's.
        bos_token, eos_token: as the template's variables of these names.

    Returns:
        Pieces in order: (text, whether control tokens in it count as such).

    Raises:
        TemplateFailedError: the template refused the conversation or is broken.
        MemoryError, TimeoutError: as the limits of the process raise them.
    """
    spelled = _longest_first(control_tokens)
    mark = _marker(spelled)
    marked = [_marked_message(_with_reasoning(message), mark) for message in messages]
    if continue_final_message:
        marked[-1] = _ended(marked[-1])
    try:
        rendered = _compiled(template).render(
            **_marked(dict(variables or {}), mark)
            | {
                "messages": marked,
                "add_generation_prompt": add_generation_prompt and not continue_final_message,
                "bos_token": bos_token,
                "eos_token": eos_token,
                "tools": _marked(tools, mark),
            }
        )
    except (MemoryError, TimeoutError):
        raise
    except Exception as error:
        # The template is a program of somebody else's: whatever it raises is its own failure.
        raise TemplateFailedError(
            f"The model's chat template refuses this conversation: {_short(error)}"
        ) from error
    if len(rendered) > MAX_RENDERED_CHARACTERS:
        raise TemplateFailedError(
            f"The rendered conversation has {len(rendered)} characters; the limit is "
            f"{MAX_RENDERED_CHARACTERS}."
        )
    return _split(_cut(rendered) if continue_final_message else rendered, spelled)


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a value made of dicts and lists, also those that are keys."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its reasoning under each of the names that templates read."""
    reasoning = message.get("reasoning_content")
    if reasoning is None:
        return message
    message = message | {"reasoning": reasoning}
    # Harmony's templates refuse it beside the text of a message that calls tools.
    if message.get("tool_calls") and message["content"]:
        return message
    return message | {"thinking": reasoning}


def _ended(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] != "assistant":
        raise TemplateFailedError("Only a message of the assistant can be continued.")
    # A template that trims takes the blank away and says so by it.
    return message | {"content": f"{message['content']}{END} "}


def _cut(rendered: str) -> str:
    """All before the end of the last message's text."""
    text, end, rest = rendered.rpartition(END)
    if not end:
        raise TemplateFailedError(
            "The model's chat template leaves the last message out or changes it, so it cannot be "
            "continued."
        )
    return text if rest.startswith(" ") else text.rstrip()


def _marked_message(message: dict[str, Any], mark: Callable[[str], str]) -> dict[str, Any]:
    """The message with its texts marked; templates compare the role and name it to the model."""
    return _marked(message, mark) | {"role": message["role"]}


def _marked(value: Any, mark: Callable[[str], str]) -> Any:
    """A copy with every text in it marked, also those that are keys."""
    if isinstance(value, str):
        return mark(value)
    if isinstance(value, dict):
        return {mark(key): _marked(item, mark) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(item, mark) for item in value]
    return value


@lru_cache(maxsize=64)
def _marker(spelled: tuple[str, ...]) -> Callable[[str], str]:
    """A function that replaces every control token in a text by its stand-in."""
    if not spelled:
        return str
    pattern = re.compile("|".join(map(re.escape, spelled)))
    numbers = {spelling: number for number, spelling in enumerate(spelled)}

    def stand_in(match: re.Match[str]) -> str:
        return f"{OPEN}{numbers[match.group()]}{CLOSE}"

    return lambda text: pattern.sub(stand_in, text)


def _split(rendered: str, spelled: tuple[str, ...]) -> list[tuple[str, bool]]:
    pieces: list[tuple[str, bool]] = []
    for index, part in enumerate(_STAND_IN.split(rendered)):
        if index % 2:
            if part not in _numbers(len(spelled)):
                raise TemplateFailedError("The model's chat template writes noncharacters.")
            pieces.append((spelled[int(part)], False))
        elif part:
            pieces.append((part, True))
    return pieces


@lru_cache(maxsize=64)
def _numbers(count: int) -> frozenset[str]:
    return frozenset(map(str, range(count)))


@lru_cache(maxsize=64)
def _longest_first(control_tokens: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(control_tokens), key=len, reverse=True))


@lru_cache(maxsize=64)
def _compiled(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=TEMPLATE_EXTENSIONS,
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    return environment.from_string(template)


def _short(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= MAX_REASON_CHARACTERS else text[:MAX_REASON_CHARACTERS] + "…"


def _to_json(value: Any, indent: int | None = None) -> str:
    # Jinja's own filter escapes for HTML, which a model would read as it stands.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now(tz=datetime.UTC).strftime(pattern)
