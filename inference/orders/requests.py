"""Request bodies with the types and ranges of their fields; any other field is refused."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from inference.orders.tools.schemas import CallId, ToolCall, ToolChoice, Tools
from inference.prompts.chat_template import Scalar
from models_registry.rules.sampling import MinP, Penalty, RepeatPenalty, Temperature, TopK, TopP

MAX_CHOICES = 128
MAX_STOPS = 16
MAX_TOP_LOGPROBS = 20
MAX_TEXTS = 2048
MAX_TEMPLATE_VARIABLES = 20
MAX_ANSWERS = 1000

Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
TokenCount = Annotated[int, Meta(ge=1, le=10_000_000)]
# -1: as many as fit into the context.
MaxTokens = Annotated[int, Meta(ge=-1, le=10_000_000)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
# Postgres cannot store NUL.
EndUser = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00]*$")]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Text = Annotated[str, Meta(min_length=1)]
KeepAlive = float | Annotated[str, Meta(max_length=40)]
Choices = Annotated[list[Text], Meta(max_length=MAX_ANSWERS)]
Inputs = str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)]
VariableName = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}\Z")]


class StrictStruct(msgspec.Struct, forbid_unknown_fields=True):
    """Base of all request bodies and their parts."""


class StreamOptions(StrictStruct):
    include_usage: bool | None = None


class TextPart(StrictStruct, tag_field="type", tag="text"):
    text: str


class RefusalPart(StrictStruct, tag_field="type", tag="refusal"):
    refusal: str


class ThinkingPart(StrictStruct, tag_field="type", tag="thinking"):
    thinking: str | list[TextPart]


class Message(StrictStruct, omit_defaults=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart | RefusalPart | ThinkingPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: CallId | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    # DeepSeek's and Qwen's parameters to continue the last message.
    prefix: bool | None = None
    partial: bool | None = None
    audio: None = None
    images: Annotated[list[Any], Meta(max_length=0)] | None = None
    function_call: None = None
    parsed: Any = None

    @property
    def reasoning_text(self) -> str:
        """The reasoning before the answer, from any of the three places where servers put it."""
        parts = self.content if isinstance(self.content, list) else []
        texts = [_text_of(part.thinking) for part in parts if isinstance(part, ThinkingPart)]
        return self.reasoning_content or self.reasoning or "".join(texts)

    def as_template_message(self) -> dict[str, Any]:
        """For chat templates: content as text, ``developer`` as ``system``."""
        message = {
            "role": "system" if self.role == "developer" else self.role,
            "content": _text_of(self.content or self.refusal or ""),
        }
        if self.name is not None:
            message["name"] = self.name
        if self.reasoning_text:
            message["reasoning_content"] = self.reasoning_text
        return message


def _text_of(content: str | Sequence[TextPart | RefusalPart | ThinkingPart]) -> str:
    if isinstance(content, str):
        return content
    return "".join(
        part.text if isinstance(part, TextPart) else part.refusal
        for part in content
        if not isinstance(part, ThinkingPart)
    )


class TextFormat(StrictStruct, tag_field="type", tag="text"):
    """``response_format`` for any text."""


class JsonObjectFormat(StrictStruct, tag_field="type", tag="json_object"):
    schema: dict[str, Any] | None = None


class NamedSchema(StrictStruct):
    """``response_format.json_schema``; enforced with or without ``strict``."""

    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(StrictStruct, tag_field="type", tag="json_schema"):
    json_schema: NamedSchema


class StructuredOutputs(StrictStruct):
    """``structured_outputs`` of vLLM; exactly one field is given."""

    json: dict[str, Any] | str | None = None
    choice: Choices | None = None
    regex: Text | None = None
    json_object: bool | None = None


class CacheOptions(StrictStruct, kw_only=True):
    """How caches may answer a request; docs/caching.md explains each."""

    mode: Literal["use", "refresh", "no-store"] | None = None
    match: Literal["exact", "retyped", "semantic"] | None = None
    scope: Literal["end_user", "user", "all"] | None = None
    ttl: Annotated[int, Meta(ge=1)] | None = None
    min_similarity: Annotated[float, Meta(ge=0, le=1)] | None = None
    user_specific: bool | None = None
    time_sensitive: bool | None = None
    pace: Annotated[float, Meta(gt=0, le=100_000)] | Literal["instant"] | None = None


class OrchestrationOptions(StrictStruct, kw_only=True):
    """Options of an answer that several models give; docs/modes.md explains each."""

    events: Literal["phases", "text", "none"] | None = None


class OpenAIRequest(StrictStruct, kw_only=True):
    """A request of OpenAI's API; ``null`` stands for a parameter's default."""

    model: Name
    user: EndUser | None = None
    keep_alive: KeepAlive | None = None


class GenerationRequest(OpenAIRequest, kw_only=True):
    """Common fields of chat and text completions; None means the version's default."""

    task_type: Name | None = None
    preset: Name | None = None
    orchestration_mode: Literal["single", "critique", "debate", "ensemble", "pipeline"] | None = (
        None
    )
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: RepeatPenalty | None = None
    seed: Seed | None = None
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] | None = None
    max_tokens: MaxTokens | None = None
    stop: Text | Annotated[list[Text], Meta(max_length=MAX_STOPS)] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    grammar: Text | None = None
    regex: Text | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_choice: Choices | None = None
    guided_regex: Text | None = None
    structured_outputs: StructuredOutputs | None = None
    priority: Annotated[int, Meta(ge=1, le=3)] | None = None
    service_type: Literal["chat", "embedding", "summary"] | None = None
    cache: CacheOptions | None = None

    @property
    def choice(self) -> dict[str, str | None]:
        """Arguments of ``Resolver.resolve`` that select the model besides its name."""
        return {
            "task_type": self.task_type,
            "preset": self.preset,
            "mode": self.orchestration_mode,
        }

    @property
    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def wants_usage_chunk(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class ChatRequest(GenerationRequest, kw_only=True):
    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: (
        Annotated[dict[VariableName, Scalar], Meta(max_length=MAX_TEMPLATE_VARIABLES)] | None
    ) = None
    reasoning_effort: Annotated[str, Meta(max_length=20)] | None = None
    enable_thinking: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    orchestration: OrchestrationOptions | None = None

    @property
    def continues_last_message(self) -> bool:
        last = self.messages[-1]
        return bool(self.continue_final_message or last.prefix or last.partial)


class CompletionRequest(GenerationRequest, kw_only=True):
    """A prompt may spell special tokens; those of the chat template only with ``parse_special``."""

    prompt: Inputs
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    parse_special: bool | None = None


class EmbeddingsRequest(OpenAIRequest, kw_only=True):
    input: Inputs
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: TokenCount | None = None


class TokenizeRequest(StrictStruct, kw_only=True):
    """Either ``content`` or ``messages`` is given."""

    model: Name
    content: str | None = None
    messages: Annotated[list[Message], Meta(min_length=1)] | None = None
    add_special: bool | None = None
    parse_special: bool | None = None


class DetokenizeRequest(StrictStruct, kw_only=True):
    model: Name
    tokens: list[TokenId]


class TokenRequest(StrictStruct, kw_only=True):
    username: Name
    password: Text
