"""Turn ``response_format``, ``grammar``, ``regex`` and their synonyms into one grammar."""

import json
import re
from typing import Any

from inference.errors import InvalidRequestError
from inference.orders.json_schema import ANY_OBJECT, read_schema, schema_text
from inference.orders.parsing import decode_json
from inference.orders.requests import (
    GenerationRequest,
    JsonObjectFormat,
    JsonSchemaFormat,
    StructuredOutputs,
)
from inference.prompts.tokenizer import Tokenizer
from models_registry.rules.spec import ModelSpec

MAX_GRAMMAR_BYTES = 65_536
# A chain of some thousand rules that each refer to the next overflows llguidance's stack.
MAX_GRAMMAR_LINES = 500

_INLINE_SCHEMA = re.compile(r"%json\s*")
_RULE_OPTIONS = re.compile(r"^[ \t]*[?!]*[\w-]+[ \t]*\[([^\]]*)\]\s*:", re.MULTILINE)
_NOT_ENFORCED = re.compile(r"\b(stop|temperature)\s*=")
_ESCAPABLE = re.compile(r"\\.|[/\n\r]", re.DOTALL)
_ESCAPES = {"/": r"\/", "\n": r"\n", "\r": r"\r"}


async def checked_grammar(tokenizer: Tokenizer, spec: ModelSpec, request: GenerationRequest) -> str:
    """The request's grammar, compiled once as a check; "" for none."""
    grammar, param = grammar_of(request)
    if grammar:
        await tokenizer.check_grammar(spec, grammar, param)
    return grammar


def grammar_of(request: GenerationRequest) -> tuple[str, str]:
    """A request's grammar in llguidance's Lark dialect, and its field; two empty texts for none."""
    found = _grammars(request)
    if not found:
        return "", ""
    if len(found) > 1:
        raise InvalidRequestError(
            f"Send only one of {' and '.join(map(repr, found))}.", param=list(found)[1]
        )
    ((param, grammar),) = found.items()
    if request.ignore_eos:
        raise InvalidRequestError(
            f"'ignore_eos' cannot be combined with {param!r}, which sets the end of the answer. "
            "Send only one of them.",
            param="ignore_eos",
        )
    _check_size(grammar, param)
    return grammar, param


def lark_text(text: str, param: str) -> str:
    """Check a client's Lark grammar and reduce the schemas in it with ``read_schema``."""
    _check_size(text, param)
    if len(text.splitlines()) > MAX_GRAMMAR_LINES:
        raise InvalidRequestError(
            f"{param!r} has more than {MAX_GRAMMAR_LINES} lines. Shorten it.", param=param
        )
    if text.lstrip().startswith("{"):
        raise InvalidRequestError(
            f"{param!r} must be a Lark grammar. Send a JSON schema as 'response_format'.",
            param=param,
        )
    if "%llguidance" in text:
        raise _unsupported("'%llguidance'", param)
    for options in _RULE_OPTIONS.findall(text):
        option = _NOT_ENFORCED.search(options)
        if option:
            raise _unsupported(f"The option {option.group(1)!r}", param)
    pieces = []
    end = 0
    for keyword in _INLINE_SCHEMA.finditer(text):
        if keyword.start() < end:
            continue  # inside the previous schema
        pieces.append(text[end : keyword.end()])
        schema, end = _object_at(text, keyword.end(), param)
        # Later lines keep their numbers.
        lines = text.count("\n", keyword.end(), end)
        pieces.append(schema_text(read_schema(schema, param)) + "\n" * lines)
    return "".join([*pieces, text[end:]])


def _grammars(request: GenerationRequest) -> dict[str, str]:
    asked = request.structured_outputs or StructuredOutputs()
    schemas = {
        "response_format": _format_schema(request),
        "guided_json": request.guided_json,
        "structured_outputs.json": asked.json,
        "structured_outputs.json_object": ANY_OBJECT if asked.json_object else None,
    }
    regexes = {
        "regex": request.regex,
        "guided_regex": request.guided_regex,
        "structured_outputs.regex": asked.regex,
    }
    choices = {"guided_choice": request.guided_choice, "structured_outputs.choice": asked.choice}
    found = {}
    for param, schema in schemas.items():
        if schema is None:
            continue
        read = decode_json(schema, param, param=param) if isinstance(schema, str) else schema
        if not isinstance(read, dict):
            raise InvalidRequestError(f"{param!r} must be a JSON schema, an object.", param=param)
        found[param] = f"start: %json {schema_text(read_schema(read, param))}"
    if request.grammar is not None:
        found["grammar"] = lark_text(request.grammar, "grammar")
    for param, regex in regexes.items():
        if regex is not None:
            found[param] = f"start: /{_ESCAPABLE.sub(_escaped, regex)}/"
    for param, texts in choices.items():
        if texts:
            found[param] = f"start: {' | '.join(map(json.dumps, texts))}"
    return found


def _format_schema(request: GenerationRequest) -> dict[str, Any] | None:
    format_ = request.response_format
    if not isinstance(format_, JsonObjectFormat | JsonSchemaFormat):
        return None
    given = format_ if isinstance(format_, JsonObjectFormat) else format_.json_schema
    return ANY_OBJECT if given.schema is None else given.schema


def _object_at(text: str, start: int, param: str) -> tuple[dict[str, Any], int]:
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        value, end = None, start
    if not isinstance(value, dict):
        raise InvalidRequestError(
            f"'%json' in {param!r} must be followed by a JSON schema, an object.", param=param
        )
    return value, end


def _escaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match.group()[-1], match.group())


def _check_size(grammar: str, param: str) -> None:
    size = len(grammar.encode("utf-8", "surrogatepass"))
    if size > MAX_GRAMMAR_BYTES:
        raise InvalidRequestError(
            f"{param!r} has {size} bytes; at most {MAX_GRAMMAR_BYTES} are allowed. Shorten it.",
            param=param,
        )


def _unsupported(part: str, param: str) -> InvalidRequestError:
    return InvalidRequestError(f"{part} in {param!r} is not supported. Leave it out.", param=param)
