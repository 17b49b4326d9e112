"""The fields of a request that concern tools, with types and ranges."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_TOOLS = 128

# Wider than OpenAI's, for MCP servers. No character needs an escape in JSON.
ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.:/-]{1,128}\Z")]
CallId = Annotated[str, Meta(max_length=200)]


class FunctionDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """``parameters`` is a JSON schema; ``strict`` refuses one that cannot be enforced in full."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(msgspec.Struct, forbid_unknown_fields=True):
    name: ToolName


class NamedTool(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["function"]
    function: FunctionName


Tools = Annotated[list[Tool], Meta(max_length=MAX_TOOLS)]
ToolChoice = Literal["none", "auto", "required"] | NamedTool


class CalledFunction(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    arguments: str | dict[str, Any] | list[Any] | None = None
    # Added by OpenAI's SDK when it parses a call; repeats ``arguments``.
    parsed_arguments: Any = None

    @property
    def arguments_text(self) -> str:
        if isinstance(self.arguments, str):
            return self.arguments
        return "" if self.arguments is None else msgspec.json.encode(self.arguments).decode()


class ToolCall(msgspec.Struct, forbid_unknown_fields=True):
    """A call in an earlier answer."""

    id: CallId
    function: CalledFunction
    type: Literal["function"] | None = None
    # Present in calls that a client has assembled from a stream.
    index: int | None = None
