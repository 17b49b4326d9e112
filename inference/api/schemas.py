"""What requests may contain, with types and ranges; anything else is refused by name."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from inference.api.tools.schemas import CallId, ToolCall, ToolChoice, Tools
from models_registry.sampling import MinP, Penalty, RepeatPenalty, Temperature, TopK, TopP

MAX_CHOICES = 16
MAX_STOPS = 16
MAX_TOP_LOGPROBS = 20
MAX_TEXTS = 2048

Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TokenCount = Annotated[int, Meta(ge=1, le=10_000_000)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
# Postgres stores no NUL.
EndUser = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00]*$")]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Text = Annotated[str, Meta(min_length=1)]
KeepAlive = float | Annotated[str, Meta(max_length=40)]


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """``stream_options``. Obfuscation padding is never sent, so only ``false`` may be asked."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class TextPart(msgspec.Struct, forbid_unknown_fields=True):
    """One part of a message's content; only text parts are supported."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Meta(min_length=1)] | None = None
    tool_call_id: CallId | None = None
    # An answer given back as it came has these too.
    refusal: None = None
    annotations: None = None
    audio: None = None
    function_call: None = None
    parsed: Any = None

    def as_template_message(self) -> dict[str, Any]:
        """The message as chat templates read it: plain text, and no newer role than ``system``."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        message = {"role": "system" if self.role == "developer" else self.role, "content": text}
        if self.name is not None:
            message["name"] = self.name
        return message


class TextFormat(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """``response_format`` that asks for nothing."""

    wanted_schema: ClassVar[None] = None


class JsonObjectFormat(
    msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="json_object"
):
    """``response_format`` for any JSON object."""

    wanted_schema: ClassVar[dict[str, Any]] = {"type": "object"}


class NamedSchema(msgspec.Struct, forbid_unknown_fields=True):
    """``response_format.json_schema``. Answers always match, be ``strict`` asked for or not."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(
    msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="json_schema"
):
    """``response_format`` for JSON that matches a schema."""

    json_schema: NamedSchema

    @property
    def wanted_schema(self) -> dict[str, Any]:
        """The schema."""
        return self.json_schema.schema


class Sampled(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What chat and text completions have in common. UNSET means the version's default.

    ``model`` may be ``auto``: then ``preset`` names it, or else the role of ``task_type`` does.
    """

    model: Name
    task_type: Name | None = None
    preset: Name | None = None
    orchestration_mode: Literal["single", "critique", "debate", "ensemble", "pipeline"] | None = (
        None
    )
    temperature: Temperature | None | UnsetType = UNSET
    top_p: TopP | None | UnsetType = UNSET
    top_k: TopK | None | UnsetType = UNSET
    min_p: MinP | None | UnsetType = UNSET
    presence_penalty: Penalty | None | UnsetType = UNSET
    frequency_penalty: Penalty | None | UnsetType = UNSET
    repeat_penalty: RepeatPenalty | None | UnsetType = UNSET
    seed: Seed | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    stop: Text | Annotated[list[Text], Meta(max_length=MAX_STOPS)] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: EndUser | None = None
    ignore_eos: bool | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    grammar: Text | None = None
    regex: Text | None = None
    priority: Annotated[int, Meta(ge=1, le=3)] | None = None
    service_type: Literal["chat", "embedding", "summary"] | None = None
    keep_alive: KeepAlive | None = None

    @property
    def choice(self) -> dict[str, str | None]:
        """What chooses the model besides its name, as ``Resolver.resolve`` takes it."""
        return {
            "task_type": self.task_type,
            "preset": self.preset,
            "mode": self.orchestration_mode,
        }

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings as a tuple."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def wants_usage_chunk(self) -> bool:
        """``stream_options.include_usage``."""
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(Sampled, forbid_unknown_fields=True, kw_only=True):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_tokens: TokenCount | None = None
    max_completion_tokens: TokenCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None


class CompletionRequest(Sampled, forbid_unknown_fields=True, kw_only=True):
    """``POST /v1/completions``; ``prompt`` is a text, texts, token ids, or lists of token ids."""

    prompt: str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1, max_length=128)]
    max_tokens: TokenCount | None | UnsetType = UNSET
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    echo: Literal[False] | None = None


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """``POST /v1/embeddings``; ``input`` as ``prompt`` above."""

    model: Name
    input: (
        str
        | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1, max_length=MAX_TEXTS)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: TokenCount | None = None
    user: EndUser | None = None
    keep_alive: KeepAlive | None = None


class TokenizeRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """``POST /v1/tokenize``: either ``content`` or ``messages``."""

    model: Name
    content: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1)] | None = None
    add_special: bool = False
    parse_special: bool = False


class DetokenizeRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """``POST /v1/detokenize``."""

    model: Name
    tokens: list[TokenId]


class TokenRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """``POST /api/auth/token``."""

    username: Name
    password: Text
