"""What a request may say of tools, with types and ranges."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_TOOLS = 128

# Wider than OpenAI's, for names of MCP servers. No character of it needs an escape in JSON.
ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.:/-]{1,128}\Z")]
CallId = Annotated[str, Meta(max_length=200)]


class FunctionDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """A function as the model is told of it.

    ``parameters`` is a JSON schema; without one the function takes no arguments. With ``strict``
    a schema that cannot be enforced as a whole is refused; without, as much of it as can be is.
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
    """The function of a call and its arguments, JSON text or an object."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    arguments: str | dict[str, Any] | list[Any] | None = None
    # The SDK's own addition to a call that it has parsed; says nothing new.
    parsed_arguments: Any = None

    @property
    def arguments_text(self) -> str:
        """The arguments as JSON text."""
        if isinstance(self.arguments, str):
            return self.arguments
        return "" if self.arguments is None else msgspec.json.encode(self.arguments).decode()


class ToolCall(msgspec.Struct, forbid_unknown_fields=True):
    """A call that an earlier answer made."""

    id: CallId
    function: CalledFunction
    type: Literal["function"] | None = None
    # A call put together from a stream still has it.
    index: int | None = None
