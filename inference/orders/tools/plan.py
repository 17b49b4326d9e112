"""Prepare a chat with tools: what the model is shown, and the grammar of its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from inference.errors import InvalidRequestError
from inference.orders.json_schema import relaxations, schema_text
from inference.orders.requests import ChatRequest
from inference.orders.tools.conversation import template_messages, template_tools, tools_as_text
from inference.orders.tools.grammar import CallLimits, lark_of
from inference.orders.tools.offer import OfferedTool, call_limits, callable_tools, offered_tools
from inference.orders.tools.syntax import CallSyntax, Spelling, syntax_of, takes_parallel_calls
from inference.prompts.tokenizer import Tokenizer
from models_registry.rules.spec import ModelSpec

# Compile time is proportional to it; 128 tools of ordinary size take a third.
MAX_GRAMMAR_CHARACTERS = 262_144


@dataclass(frozen=True)
class ChatPlan:
    """``tools``: None if the template does not read them; ``unenforced``: ignored schema parts."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    grammar: str = ""
    call_syntax: str = ""
    unenforced: tuple[str, ...] = ()


async def chat_plan(tokenizer: Tokenizer, spec: ModelSpec, request: ChatRequest) -> ChatPlan:
    messages = template_messages(request.messages)
    tools = offered_tools(request)
    shown = template_tools(request.tools or ()) if tools else []
    name = syntax_of(spec.chat_template)
    if name == "json":
        messages = tools_as_text(messages, shown)
    if not tools:
        return ChatPlan(messages)
    syntax = CallSyntax(name, tuple(tool.name for tool in tools))
    limits = call_limits(request, parallel=takes_parallel_calls(spec.chat_template))
    tags = await _tag_tokens(tokenizer, spec, syntax.spelling)
    called = callable_tools(request, tools)
    grammar = _lark(called, syntax.spelling, limits, tags)
    try:
        await tokenizer.check_grammar(spec, grammar, "tools")
    except InvalidRequestError:
        called = [await _compilable(tokenizer, spec, tool) for tool in called]
        grammar = _lark(called, syntax.spelling, limits, tags)
        await tokenizer.check_grammar(spec, grammar, "tools")
    return ChatPlan(
        messages,
        None if name == "json" else shown,
        grammar,
        syntax.encoded(),
        tuple(
            f"{tool.param}: {keyword}" if keyword else tool.param
            for tool in called
            for keyword in tool.schema.unenforced
        ),
    )


def _lark(
    tools: Sequence[OfferedTool], spelling: Spelling, limits: CallLimits, tags: dict[str, int]
) -> str:
    schemas = {tool.name: tool.schema for tool in tools}
    grammar = lark_of(schemas, spelling, limits, tags)
    if len(grammar) > MAX_GRAMMAR_CHARACTERS:
        raise InvalidRequestError(
            f"The tools make a grammar of {len(grammar)} characters; at most "
            f"{MAX_GRAMMAR_CHARACTERS} are allowed. Send fewer or simpler tools.",
            param="tools",
        )
    return grammar


async def _compilable(tokenizer: Tokenizer, spec: ModelSpec, tool: OfferedTool) -> OfferedTool:
    """The tool with the first of its schema's relaxations that compiles; a strict one has none."""
    for schema in (tool.schema, *relaxations(tool.schema)):
        grammar = f"start: %json {schema_text(schema.schema)}"
        try:
            await tokenizer.check_grammar(spec, grammar, tool.param)
            break
        except InvalidRequestError:
            if tool.is_strict:
                raise
    return replace(tool, schema=schema)


async def _tag_tokens(tokenizer: Tokenizer, spec: ModelSpec, spelling: Spelling) -> dict[str, int]:
    """Token ids of the call's opening and closing tags, if the tag is one token."""
    found = {}
    for tag in filter(None, (spelling.opening, spelling.closing)):
        ids = await tokenizer.text(spec, tag, "tools", add_special=False, marks="all")
        if len(ids) == 1:
            found[tag] = ids[0]
    return found
