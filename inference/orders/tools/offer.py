"""Check ``tools`` and ``tool_choice`` of a request: which calls may the answer make? Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from inference.errors import InvalidRequestError
from inference.orders.grammar import grammar_of
from inference.orders.json_schema import EnforcedSchema, read_leniently, read_schema
from inference.orders.requests import ChatRequest
from inference.orders.schema_keywords import OPEN_ENDED
from inference.orders.tools.grammar import MAX_CALLS, CallLimits
from inference.orders.tools.json_scan import depth_of
from inference.orders.tools.schemas import NamedTool, Tool

# Annotations included; chat templates write a schema out by recursion.
MAX_DEPTH = 80


@dataclass(frozen=True)
class OfferedTool:
    """A tool that the model is shown; ``param`` is the field of its schema, for errors."""

    name: str
    param: str
    schema: EnforcedSchema
    is_strict: bool


def offered_tools(request: ChatRequest) -> list[OfferedTool]:
    """The tools that the model is shown; none if it may not call any."""
    choice = request.tool_choice
    tools: list[OfferedTool] = []
    for index, tool in enumerate(request.tools or ()):
        name, param = tool.function.name, f"tools[{index}].function.parameters"
        if any(name == other.name for other in tools):
            raise InvalidRequestError(
                f"Two tools have the name {name!r}. Rename one.",
                param=f"tools[{index}].function.name",
            )
        schema = arguments_schema(tool, param)
        tools.append(OfferedTool(name, param, schema, bool(tool.function.strict)))
    if not tools and choice not in (None, "none", "auto"):
        raise InvalidRequestError(
            "'tool_choice' is only allowed with 'tools'. Send both or neither.",
            param="tool_choice",
        )
    if isinstance(choice, NamedTool) and not callable_tools(request, tools):
        raise InvalidRequestError(
            f"'tool_choice' names {choice.function.name!r}, which is not among 'tools'. "
            "Correct the name or add the tool.",
            param="tool_choice",
        )
    if not tools or choice == "none":
        return []
    _check_combination(request)
    return tools


def callable_tools(request: ChatRequest, tools: Sequence[OfferedTool]) -> list[OfferedTool]:
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        return [tool for tool in tools if tool.name == choice.function.name]
    return list(tools)


def call_limits(request: ChatRequest, *, parallel: bool) -> CallLimits:
    """How many calls the answer may have; ``parallel``: the model can make several at once.

    A forced call is the only one unless ``parallel_tool_calls`` is set: a small model that is
    forced to call may not stop calling.
    """
    is_forced = isinstance(request.tool_choice, NamedTool) or request.tool_choice == "required"
    wants_many = request.parallel_tool_calls
    if wants_many is None:
        wants_many = not is_forced
    return CallLimits(is_forced, MAX_CALLS if wants_many and parallel else 1)


def arguments_schema(tool: Tool, param: str) -> EnforcedSchema:
    """The schema that is enforced for the arguments of a call, always an object.

    A function without parameters takes no arguments. A strict tool's schema is enforced in full.
    """
    parameters = tool.function.parameters or {}
    schema = {"type": "object"} | {k: v for k, v in parameters.items() if v is not None}
    if depth_of(schema) > MAX_DEPTH:
        raise InvalidRequestError(
            f"The parameters of {tool.function.name!r} are nested more than {MAX_DEPTH} deep. "
            "Simplify them.",
            param=param,
        )
    if schema["type"] != "object":
        if not (isinstance(schema["type"], list) and "object" in schema["type"]):
            raise InvalidRequestError(
                f"The parameters of {tool.function.name!r} must be a JSON schema of the type "
                "'object'.",
                param=param,
            )
        schema["type"] = "object"
    if not schema.get("properties") and not schema.keys() & OPEN_ENDED:
        schema["additionalProperties"] = False
    if tool.function.strict:
        return EnforcedSchema(read_schema(schema, param))
    return read_leniently(schema, param)


def _check_combination(request: ChatRequest) -> None:
    """Refuse other parameters that determine the form of the answer."""
    _, other = grammar_of(request)
    if other:
        raise InvalidRequestError(
            f"'tools' cannot be combined with {other!r}, unless 'tool_choice' is 'none'. Send them "
            "in two requests.",
            param=other,
        )
    if request.ignore_eos:
        raise InvalidRequestError(
            "'ignore_eos' cannot be combined with 'tools': an answer ends after its calls. Leave "
            "one of them out.",
            param="ignore_eos",
        )
