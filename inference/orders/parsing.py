"""Parse a request body; errors name the field at fault: pure."""

import re
from functools import cache
from typing import Any, TypeVar

import msgspec

from inference.errors import InvalidRequestError
from inference.orders.hints import child_path, without_hints
from inference.orders.requests import OpenAIRequest

Body = TypeVar("Body", bound=msgspec.Struct)

# Parameters of other services that this one does not support, and their values without effect.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none",),
    "functions": ([],),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1, 1.0),
    "mirostat": (0,),
    "modalities": (["text"], []),
    "moderation": (),
    "session_id": (),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "suffix": ("",),
    "tfs_z": (1, 1.0),
    "use_beam_search": (False,),
    "web_search_options": (),
}
# Other servers' names for our parameters.
SYNONYMS = {
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "repetition_penalty": "repeat_penalty",
}

_PATH = re.compile(r" - at (?:`key` in )?`\$(.*)`$")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]*)`")


def decode_json(data: bytes | str, name: str, param: str | None = None) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            f"The {name} is not valid JSON: {error}", param=param, code="invalid_json"
        ) from None


def parse(raw: Any, kind: type[Body]) -> Body:
    """Convert decoded JSON to ``kind``, strictly.

    In requests of OpenAI's API, hints are ignored and ``null`` stands for a parameter's default.
    """
    if not isinstance(raw, dict):
        raise InvalidRequestError("The request body must be a JSON object.", code="invalid_json")
    given = raw
    if issubclass(kind, OpenAIRequest):
        raw = _normalised(without_hints(raw), kind)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        for name in given.keys() & SYNONYMS.keys():
            text = text.replace(f"`$.{SYNONYMS[name]}`", f"`$.{name}`")
        raise _field_error(text) from None


def _normalised(raw: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The body with our names of parameters, without those that have no effect."""
    optional = _optional_fields(kind)
    read: dict[str, Any] = {}
    for name, value in raw.items():
        own = SYNONYMS.get(name, name)
        if own in optional:
            if value is None or (own == "stop" and value == ""):
                continue
            if read.setdefault(own, value) != value:
                raise InvalidRequestError(
                    f"{name!r} and another name of {own!r} have different values. Send only one.",
                    param=name,
                )
        elif name not in UNSUPPORTED:
            read[name] = value
        elif value is not None and not any(
            type(value) is type(harmless) and value == harmless for harmless in UNSUPPORTED[name]
        ):
            raise InvalidRequestError(
                f"This service does not support {name!r}. Leave it out.",
                param=name,
                code="unsupported_parameter",
            )
    return read


@cache
def _optional_fields(kind: type[msgspec.Struct]) -> frozenset[str]:
    # Cached: msgspec evaluates all annotations at each call.
    fields = msgspec.structs.fields(kind)
    return frozenset(field.encode_name for field in fields if not field.required)


def _field_error(text: str) -> InvalidRequestError:
    at = _PATH.search(text)
    path = at.group(1).lstrip(".").replace("[...]", "[]") if at else ""
    message = text[: at.start()] if at else text
    if unknown := _UNKNOWN.search(message):
        param = child_path(path, unknown.group(1))
        return InvalidRequestError(
            f"Unknown parameter: {param!r}. Leave it out or correct its name.",
            param=param,
            code="unknown_parameter",
        )
    if missing := _MISSING.search(message):
        param = child_path(path, missing.group(1))
        return InvalidRequestError(
            f"Missing required parameter: {param!r}. Add it.",
            param=param,
            code="missing_parameter",
        )
    return InvalidRequestError(
        f"Invalid value for {path or 'the request'!r}: {message}.", param=path or None
    )
