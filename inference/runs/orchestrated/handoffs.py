"""Texts between members: how much room they have, and the fast model that shortens them."""

import functools
from collections.abc import Sequence

import msgspec

from inference.errors import CompressionFailedError, InferenceError
from inference.orchestration.answers import shown
from inference.orchestration.budget import room_for, sections_of
from inference.orchestration.compression import Fitted, Shorten, fit, sentences
from inference.orchestration.requests import fenced, request_of
from inference.orchestration.stage import Call, Stage
from inference.orders.cast import Member
from inference.orders.chat import chat_order
from inference.orders.requests import ChatRequest, Message
from inference.runs.runtime import runtime
from inference.runs.semantic_search import is_ready
from models_registry.rules.spec import ModelSpec

# Instructions and marks around the text.
_BLOCK_TOKENS = 200
_INSTRUCTION = """\
Shorten the text between the marks to at most {words} words. Keep decisions, constraints, numbers, \
names, open questions and errors. Leave out reasoning and examples, and add nothing.
<<<text
{text}
text>>>"""


async def fitted(
    stage: Stage, member: Member, request: ChatRequest, texts: Sequence[str], key: str
) -> list[Fitted]:
    """Texts that fit into a request to a member, beside the answer that is wanted.

    ``key`` begins the keys of the calls that shorten it.

    Raises:
        CompressionFailedError: one cannot be made short enough.
    """
    spec, tokenizer = member.spec, runtime().tokenizer
    order = await chat_order(runtime(), request_of(request, key), spec)
    wanted = request.max_completion_tokens or request.max_tokens
    room = room_for(
        sections_of(spec),
        conversation=len(order.prompts[0]),
        trajectory=_BLOCK_TOKENS,
        max_tokens=wanted if wanted and wanted > 0 else None,
    )

    async def count(part: str) -> int:
        return len(await tokenizer.text(spec, part, "messages", add_special=False))

    shorten = await _fast_model(stage, member, request, key)

    async def one(text: str) -> Fitted:
        most = room // len(texts)
        try:
            return await fit(text, most, count=count, shorten=shorten)
        except CompressionFailedError:
            if shorten is None:
                raise
            return await fit(text, most, count=count, shorten=None)

    return [await one(shown(text)) for text in texts]


async def _fast_model(
    stage: Stage, member: Member, request: ChatRequest, key: str
) -> Shorten | None:
    """The model with the role ``fast`` if it is in memory: none is loaded for this."""
    try:
        spec = await runtime().resolver.resolve("role:fast", "text_generation")
    except InferenceError:
        return None
    if not await is_ready(spec):
        return None
    fast = Member(member.index, "compressor", spec)
    return functools.partial(_shortened, stage, fast, request.model, key, [0])


async def _shortened(
    stage: Stage, fast: Member, model: str, key: str, calls: list[int], text: str, tokens: int
) -> str:
    """The text rewritten in about ``tokens`` tokens, in parts that fit the fast model's context."""
    parts = await _parts(fast.spec, text)
    made = []
    for part in parts:
        calls[0] += 1
        words = max(5, int(tokens / len(parts) * 0.7))
        content = _INSTRUCTION.format(words=words, text=fenced(part))
        most = max(16, 2 * tokens // len(parts))
        asked = ChatRequest(
            model=model, messages=[Message(role="user", content=content)], max_tokens=most
        )
        asked = msgspec.structs.replace(asked, temperature=0.0)
        made.append(Call(f"{key}{calls[0]}", "compress", calls[0], fast, asked))
    said = await stage.together(made)
    # A part that nobody has shortened stays as it is.
    return " ".join(
        one.text.strip() if one.is_usable else part for one, part in zip(said, parts, strict=True)
    )


async def _parts(spec: ModelSpec, text: str) -> list[str]:
    """The text in runs of sentences of at most a third of a context."""
    most, parts, size = spec.sequence_limit_tokens // 3, [""], 0
    for sentence in sentences(text):
        count = len(await runtime().tokenizer.text(spec, sentence, "messages", add_special=False))
        if size and size + count > most:
            parts.append("")
            size = 0
        parts[-1] += sentence
        size += count
    return parts
