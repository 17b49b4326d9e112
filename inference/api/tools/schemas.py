"""What a request may say of tools, with types and ranges."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_TOOLS = 128

ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
CallId = Annotated[str, Meta(min_length=1, max_length=200)]


class FunctionDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """A function as the model is told of it.

    ``parameters`` is a JSON schema; without one the function takes no arguments. Arguments always
    match it, so ``strict`` changes nothing.
    """

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    """One of ``tools``; only functions are supported."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(msgspec.Struct, forbid_unknown_fields=True):
    """Which function is meant."""

    name: ToolName


class NamedTool(msgspec.Struct, forbid_unknown_fields=True):
    """``tool_choice`` that names the one function to call."""

    type: Literal["function"]
    function: FunctionName


Tools = Annotated[list[Tool], Meta(max_length=MAX_TOOLS)]
ToolChoice = Literal["none", "auto", "required"] | NamedTool


class CalledFunction(msgspec.Struct, forbid_unknown_fields=True):
    """The function of a call and its arguments as JSON text."""

    name: ToolName
    arguments: str
    # The SDK's own addition to a call that it has parsed; says nothing new.
    parsed_arguments: Any = None


class ToolCall(msgspec.Struct, forbid_unknown_fields=True):
    """A call that an earlier answer made."""

    id: CallId
    type: Literal["function"]
    function: CalledFunction
    # A call put together from a stream still has it.
    index: int | None = None
