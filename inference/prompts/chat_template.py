"""Render a model's Jinja chat template: sandboxed, and with what it is given kept apart."""

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jinja2

from inference.prompts.marks import ROLES, split_marks
from inference.prompts.variants import instructions_at_risk, is_heard, variants
from inference.prompts.written import CLOSE, OPEN, WrittenEnvironment, origins, own, shown
from models_registry.rules.chat_templates import TEMPLATE_EXTENSIONS, TEMPLATE_FILTERS

# A noncharacter, as OPEN and CLOSE are.
END = "\ufdd2"
RESERVED = (OPEN, CLOSE, END)
MAX_REASON_CHARACTERS = 300
OWN_VARIABLES = frozenset(
    ["messages", "tools", "documents", "bos_token", "eos_token", "add_generation_prompt"]
)
"""Variables that the service sets."""


Scalar = str | int | float | bool | None


class TemplateFailedError(Exception):
    """The template could not be rendered; the message is fit for the client."""


def render(
    template: str,
    messages: Sequence[dict[str, Any]],
    marks: tuple[str, ...],
    *,
    tools: Sequence[dict[str, Any]] | None = None,
    variables: Mapping[str, Scalar] | None = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    bos_token: str = "",
    eos_token: str = "",
) -> list[str]:
    """Render a conversation.

    One that the template refuses is put into other words where that helps; see ``variants``.

    Args:
        template: Jinja source.
        messages: dicts with ``role`` and ``content``, and whatever else the template reads.
        marks: spellings of tokens that only the template may write.
        tools: functions that the model may call, as the template's variable of this name.
        variables: further variables of the template; those of OWN_VARIABLES have no effect.
        add_generation_prompt: end with the opening of the assistant's turn.
        continue_final_message: end with the text of the last message, which is the assistant's.
        bos_token, eos_token: as the template's variables of these names.

    Returns:
        Pieces in order, to be tokenised apart: every mark in one of them is the template's.

    Raises:
        TemplateFailedError: the template refused the conversation or is broken.
        MemoryError, TimeoutError: as the limits of the process raise them.
    """
    given = {
        "add_generation_prompt": add_generation_prompt and not continue_final_message,
        "bos_token": own(bos_token),
        "eos_token": own(eos_token),
        "tools": tools,
        "documents": None,
    }
    if continue_final_message:
        messages = [*messages[:-1], _ended(messages[-1])]
    rendered = _first_heard(template, messages, {**(variables or {}), **given})
    text, outside = origins(_cut(rendered) if continue_final_message else rendered)
    return split_marks(text, marks, outside)


def _first_heard(
    template: str, messages: Sequence[dict[str, Any]], variables: dict[str, Any]
) -> str:
    """The conversation in the first words that the template takes, as ``shown`` gives it."""
    at_risk = instructions_at_risk(messages)
    refusal: Exception | None = None
    deaf = None
    for variant in variants(messages):
        told = [_told(message) for message in variant]
        try:
            rendered = _compiled(template).render(variables | {"messages": told})
        except (MemoryError, TimeoutError):
            raise
        except Exception as error:
            # The template is a program of somebody else's: whatever it raises is its own failure.
            refusal = refusal or error
            continue
        if all(is_heard(text, rendered) for text in at_risk):
            return shown(rendered)
        deaf = shown(deaf or rendered)
    if deaf is not None:
        return deaf
    if "tools" in variables and variables["tools"] is None:
        # Some walk through the tools without asking whether there are any.
        others = {name: value for name, value in variables.items() if name != "tools"}
        return _first_heard(template, messages, others)
    raise TemplateFailedError(
        f"The model's chat template refuses this conversation: {_short(refusal)}"
    ) from refusal


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


def _told(message: dict[str, Any]) -> dict[str, Any]:
    """The message with its reasoning under each of the names that templates read."""
    told = dict(message)
    # Templates name it to the model, and put marks together with it.
    if message["role"] in ROLES:
        told["role"] = own(message["role"])
    reasoning = message.get("reasoning_content")
    if reasoning is not None:
        told["reasoning"] = reasoning
        # Harmony's templates refuse it beside the text of a message that calls tools.
        if not (message.get("tool_calls") and message["content"]):
            told["thinking"] = reasoning
    return told


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


@lru_cache(maxsize=64)
def _compiled(template: str) -> jinja2.Template:
    environment = WrittenEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=TEMPLATE_EXTENSIONS,
    )
    environment.filters.update(dict(zip(TEMPLATE_FILTERS, (json.loads, _to_json), strict=True)))
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _strftime_now
    return environment.from_string(template)


def _short(error: Exception | None) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= MAX_REASON_CHARACTERS else text[:MAX_REASON_CHARACTERS] + "…"


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML, which a model would read as it stands.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now(tz=datetime.UTC).strftime(pattern)
