"""What answers must look like: ``response_format``, ``grammar`` and ``regex`` as one grammar.

Pure but for the last step: a grammar that passes here is tried out in the prompt process.
"""

import json
import re
from typing import Any

from inference.api.json_schema import check_schema, schema_text
from inference.api.schemas import Sampled
from inference.errors import InvalidRequestError
from inference.prompts.tokenizer import Tokenizer
from models_registry.spec import ModelSpec

__all__ = ["check_schema", "checked_grammar", "grammar_of", "lark_text", "schema_text"]

MAX_GRAMMAR_BYTES = 65_536
# A chain of some thousand rules, each in the next, overflows llguidance's stack.
MAX_GRAMMAR_LINES = 500

_INLINE_SCHEMA = re.compile(r"%json\s*")
_RULE_OPTIONS = re.compile(r"^[ \t]*[?!]*[\w-]+[ \t]*\[([^\]]*)\]\s*:", re.MULTILINE)
_NOT_ENFORCED = re.compile(r"\b(stop|temperature)\s*=")
_ESCAPABLE = re.compile(r"\\.|[/\n\r]", re.DOTALL)
_ESCAPES = {"/": r"\/", "\n": r"\n", "\r": r"\r"}


async def checked_grammar(tokenizer: Tokenizer, spec: ModelSpec, request: Sampled) -> str:
    """The grammar that a request asks its answers to match, "" for none.

    Raises:
        InvalidRequestError: it is not one that this model's answers can be held to.
    """
    grammar, param = grammar_of(request)
    if grammar:
        await tokenizer.check_grammar(spec, grammar, param)
    return grammar


def grammar_of(request: Sampled) -> tuple[str, str]:
    """A request's grammar in Lark, as llguidance reads it, and the field it came from.

    Returns:
        Two empty strings for a request that leaves its answers free.

    Raises:
        InvalidRequestError: it is too large, has something unsupported, or there are two.
    """
    found = _grammars(request)
    if not found:
        return "", ""
    if len(found) > 1:
        raise InvalidRequestError(
            f"Give only one of {' and '.join(map(repr, found))}.", param=list(found)[1]
        )
    ((param, grammar),) = found.items()
    if request.ignore_eos:
        raise InvalidRequestError(
            f"'ignore_eos' would go on after the end that {param!r} sets. Leave one of them out.",
            param="ignore_eos",
        )
    _check_size(grammar, param)
    return grammar, param


def lark_text(text: str, param: str) -> str:
    """A Lark grammar from a client, with the schemas in it as ``schema_text`` has them.

    Raises:
        InvalidRequestError: it is too large, or has something that answers are not held to.
    """
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
    return _with_read_schemas(text, param)


def _grammars(request: Sampled) -> dict[str, str]:
    """Grammars by the field that asks for them."""
    found = {}
    if request.response_format is not None and request.response_format.wanted_schema is not None:
        schema = request.response_format.wanted_schema
        found["response_format"] = f"start: %json {schema_text(schema, 'response_format')}"
    if request.grammar is not None:
        found["grammar"] = lark_text(request.grammar, "grammar")
    if request.regex is not None:
        found["regex"] = f"start: /{_ESCAPABLE.sub(_escape, request.regex)}/"
    return found


def _with_read_schemas(text: str, param: str) -> str:
    """Replace each schema after ``%json``, keeping the numbers of the lines that follow."""
    pieces = []
    end = 0
    for keyword in _INLINE_SCHEMA.finditer(text):
        if keyword.start() < end:
            continue  # inside the schema just read
        pieces.append(text[end : keyword.end()])
        schema, end = _json_at(text, keyword.end(), param)
        lines = text.count("\n", keyword.end(), end)
        pieces.append(schema_text(schema, param) + "\n" * lines)
    return "".join([*pieces, text[end:]])


def _json_at(text: str, start: int, param: str) -> tuple[dict[str, Any], int]:
    """The JSON object that begins at ``start``, and where it ends."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        value, end = None, start
    if not isinstance(value, dict):
        raise InvalidRequestError(
            f"'%json' in {param!r} must be followed by a JSON schema, an object.", param=param
        )
    return value, end


def _escape(match: re.Match[str]) -> str:
    """A character as it may stand between the slashes of a Lark regex."""
    return _ESCAPES.get(match.group()[-1], match.group())


def _check_size(grammar: str, param: str) -> None:
    size = len(grammar.encode("utf-8", "surrogatepass"))
    if size > MAX_GRAMMAR_BYTES:
        raise InvalidRequestError(
            f"{param!r} has {size} bytes; at most {MAX_GRAMMAR_BYTES} are allowed. Shorten it.",
            param=param,
        )


def _unsupported(what: str, param: str) -> InvalidRequestError:
    return InvalidRequestError(f"{what} in {param!r} is not supported. Leave it out.", param=param)
