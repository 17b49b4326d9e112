"""What a request with tools asks: what the model is shown, and what its answer must match."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inference.errors import InvalidRequestError
from inference.orders.grammar import grammar_of
from inference.orders.json_schema import EnforcedSchema, relaxations, schema_text
from inference.orders.requests import ChatRequest
from inference.orders.tools.conversation import in_plain_words, template_messages, template_tools
from inference.orders.tools.grammar import MAX_CALLS, Demand, arguments_schema, lark_of
from inference.orders.tools.schemas import NamedTool, Tool
from inference.orders.tools.syntax import CallSyntax, Spelling, syntax_of, takes_parallel_calls
from inference.prompts.tokenizer import Tokenizer
from models_registry.rules.spec import ModelSpec

# Compiling takes time in proportion; 128 tools of ordinary size are a third of it.
MAX_GRAMMAR_BYTES = 262_144


@dataclass(frozen=True)
class ChatPlan:
    """A chat as the model will see it.

    ``tools`` are for the template; None where it reads none. ``grammar`` and ``call_syntax`` are
    empty when no tool can be called. ``unenforced`` names parts of the tools' schemas that
    arguments are not held to.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    grammar: str = ""
    call_syntax: str = ""
    unenforced: tuple[str, ...] = ()


async def chat_plan(tokenizer: Tokenizer, spec: ModelSpec, request: ChatRequest) -> ChatPlan:
    """Plan a chat, with its tools if it has any.

    Raises:
        InvalidRequestError: the tools, their choice or the conversation are not valid.
    """
    messages = template_messages(request.messages)
    tools = offered_tools(request)
    name = syntax_of(spec.chat_template)
    shown = template_tools(tools)
    if name == "json":
        messages = in_plain_words(messages, shown)
    if not tools:
        return ChatPlan(messages)
    syntax = CallSyntax(name, tuple(tool.function.name for tool in tools))
    demand = demand_of(request, parallel=takes_parallel_calls(spec.chat_template))
    schemas = _schemas(request, tools)
    tags = await _tag_tokens(tokenizer, spec, syntax.spelling)
    grammar = _lark(schemas, syntax.spelling, demand, tags)
    try:
        await tokenizer.check_grammar(spec, grammar, "tools")
    except InvalidRequestError:
        schemas = await _compilable(tokenizer, spec, tools, schemas)
        grammar = _lark(schemas, syntax.spelling, demand, tags)
        await tokenizer.check_grammar(spec, grammar, "tools")
    return ChatPlan(
        messages,
        None if name == "json" else shown,
        grammar,
        syntax.encoded(),
        _unenforced(tools, schemas),
    )


def _lark(
    schemas: dict[str, EnforcedSchema], spelling: Spelling, demand: Demand, tags: dict[str, int]
) -> str:
    grammar = lark_of(schemas, spelling, demand, tags)
    if len(grammar) > MAX_GRAMMAR_BYTES:
        raise InvalidRequestError(
            f"The tools make a grammar of {len(grammar)} bytes; at most {MAX_GRAMMAR_BYTES} are "
            "allowed. Send fewer or simpler tools.",
            param="tools",
        )
    return grammar


def _schemas(request: ChatRequest, tools: Sequence[Tool]) -> dict[str, EnforcedSchema]:
    """Schemas of the arguments of the tools that may be called, by name."""
    callable_ = {tool.function.name for tool in callable_tools(request, tools)}
    return {
        tool.function.name: arguments_schema(tool, _param(index))
        for index, tool in enumerate(tools)
        if tool.function.name in callable_
    }


async def _compilable(
    tokenizer: Tokenizer,
    spec: ModelSpec,
    tools: Sequence[Tool],
    schemas: dict[str, EnforcedSchema],
) -> dict[str, EnforcedSchema]:
    """The schemas, relaxed for each tool whose own does not compile.

    Raises:
        InvalidRequestError: that tool is strict.
    """
    found = dict(schemas)
    for index, tool in enumerate(tools):
        name = tool.function.name
        if name not in schemas:
            continue
        for schema in (schemas[name], *relaxations(schemas[name])):
            found[name] = schema
            grammar = f"start: %json {schema_text(schema.schema)}"
            try:
                await tokenizer.check_grammar(spec, grammar, _param(index))
            except InvalidRequestError:
                if tool.function.strict:
                    raise
                continue
            break
    return found


def _unenforced(tools: Sequence[Tool], schemas: dict[str, EnforcedSchema]) -> tuple[str, ...]:
    """Keywords that are not enforced, behind their tools' fields; a field alone is all of it."""
    return tuple(
        f"{_param(index)}: {keyword}" if keyword else _param(index)
        for index, tool in enumerate(tools)
        if tool.function.name in schemas
        for keyword in schemas[tool.function.name].unenforced
    )


def _param(index: int) -> str:
    return f"tools[{index}].function.parameters"


def offered_tools(request: ChatRequest) -> list[Tool]:
    """The tools that the model is told of: none when it may not call any.

    Raises:
        InvalidRequestError: they, or what is asked of them, are not valid.
    """
    tools = request.tools or []
    choice = request.tool_choice
    names = [tool.function.name for tool in tools]
    for index, tool in enumerate(tools):
        if tool.function.name in names[:index]:
            raise InvalidRequestError(
                f"Two tools have the name {tool.function.name!r}. Rename one.",
                param=f"tools[{index}].function.name",
            )
        arguments_schema(tool, _param(index))
    if not tools and choice not in (None, "none", "auto"):
        raise InvalidRequestError(
            "'tool_choice' is only allowed with 'tools'.", param="tool_choice"
        )
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise InvalidRequestError(
            f"'tool_choice' names {choice.function.name!r}, which is none of 'tools'.",
            param="tool_choice",
        )
    if not tools or choice == "none":
        return []
    _check_together(request)
    return tools


def callable_tools(request: ChatRequest, tools: Sequence[Tool]) -> list[Tool]:
    """Those of the offered tools that the request lets the model call."""
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        return [tool for tool in tools if tool.function.name == choice.function.name]
    return list(tools)


def demand_of(request: ChatRequest, *, parallel: bool) -> Demand:
    """The number of calls that the answer may have: one if forced, unless more are asked for.

    A small model that is forced to call finds no end of it.

    Args:
        request: with tools.
        parallel: whether the model can make several at once.
    """
    named = isinstance(request.tool_choice, NamedTool)
    forced = named or request.tool_choice == "required"
    wants_many = request.parallel_tool_calls
    if wants_many is None:
        wants_many = not forced
    return Demand(forced, MAX_CALLS if wants_many and parallel else 1)


def _check_together(request: ChatRequest) -> None:
    """Refuse what would set the answer's form beside the tools."""
    _, other = grammar_of(request)
    if other:
        raise InvalidRequestError(
            f"'tools' cannot be combined with {other!r}, unless 'tool_choice' is 'none'. Send them "
            "in two requests.",
            param=other,
        )
    if request.ignore_eos:
        raise InvalidRequestError(
            "'ignore_eos' would go on after the end of a call. Leave it out, or send no 'tools'.",
            param="ignore_eos",
        )


async def _tag_tokens(tokenizer: Tokenizer, spec: ModelSpec, spelling: Spelling) -> dict[str, int]:
    """Ids of those of the spelling's tags that are one token of the model."""
    found = {}
    for tag in filter(None, (spelling.opening, spelling.closing)):
        ids = await tokenizer.text(spec, tag, "tools", add_special=False, marks="all")
        if len(ids) == 1:
            found[tag] = ids[0]
    return found
