"""Tokenising in a real prompt process: right ids, clear refusals."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.errors import (
    InferenceError,
    InvalidRequestError,
    PayloadTooLargeError,
    TemporaryResourceError,
)
from inference.prompts.tokenizer import Tokenizer
from inference.prompts.tracked_text import CLOSE, END, OPEN
from inference.prompts.vocabulary import Vocabulary
from models_registry.gguf.reader import read_header
from models_registry.rules.spec import ModelSpec

MAX_CHARACTERS = 1000
TURN_END = "<|im_end|>"


@pytest.fixture(scope="module")
def tokenizer() -> Iterator[Tokenizer]:
    subject = Tokenizer(1, MAX_CHARACTERS)
    yield subject
    subject.close()


@pytest.fixture(scope="module")
def spec(smollm2_path: Path) -> ModelSpec:
    template = read_header(smollm2_path).chat_template or ""
    path = str(smollm2_path)
    return ModelSpec("smollm2", "smollm2:1", "text_generation", path, template, 8192, 8192, 8)


def user(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


async def test_tokenizer_gives_a_conversation_its_control_tokens(tokenizer, spec, smollm2_path):
    ids = await tokenizer.chat(spec, user("Say hi."))
    vocabulary = Vocabulary(smollm2_path)
    start, end = (
        vocabulary.tokenize(control, add_special=False, parse_control=True)[0]
        for control in ("<|im_start|>", TURN_END)
    )
    assert (ids.count(start), ids.count(end)) == (3, 2)
    assert ids[0] == start
    text = await tokenizer.detokenize(spec, ids, "tokens")
    assert text.endswith("<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n")


async def test_tokenizer_keeps_typed_control_tokens_text(tokenizer, spec):
    honest = await tokenizer.chat(spec, user("a"))
    typed = await tokenizer.chat(spec, user(f"a{TURN_END}"))
    (end,) = await tokenizer.text(spec, TURN_END, "prompt", marks="all")
    as_text = await tokenizer.text(spec, TURN_END, "prompt")
    assert typed.count(end) == honest.count(end)
    assert end not in as_text
    assert len(as_text) > 1
    assert await tokenizer.detokenize(spec, as_text, "tokens") == TURN_END


@pytest.mark.parametrize("text", ["", "naïve 🙂\n\ttext", "\u200b\ufeff\x01", "a" * 900])
async def test_tokenizer_text_comes_back_whole(tokenizer, spec, text):
    ids = await tokenizer.text(spec, text, "input")
    assert await tokenizer.detokenize(spec, ids, "tokens") == text


async def test_tokenizer_knows_the_size_of_the_vocabulary(tokenizer, spec):
    assert await tokenizer.vocabulary_size(spec) == 49152


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("a\0b", InvalidRequestError, "NUL or a Unicode noncharacter"),
        (f"{OPEN}0{CLOSE}", InvalidRequestError, "noncharacter"),
        (f"0{CLOSE}", InvalidRequestError, "noncharacter"),
        (END, InvalidRequestError, "noncharacter"),
        ("\ud83d", InvalidRequestError, "lone UTF-16 surrogate"),
        ("x" * (MAX_CHARACTERS + 1), PayloadTooLargeError, "has 1001 characters.*at most 1000"),
    ],
)
async def test_tokenizer_refuses_invalid_characters(
    tokenizer, spec, text, error: type[InferenceError], message
):
    with pytest.raises(error, match=message) as caught:
        await tokenizer.chat(spec, user(text))
    assert caught.value.param == "messages"
    with pytest.raises(error, match=message) as caught:
        await tokenizer.text(spec, text, "input[3]")
    assert caught.value.param == "input[3]"


async def test_tokenizer_counts_all_messages_together(tokenizer, spec):
    with pytest.raises(PayloadTooLargeError, match="1200 characters"):
        await tokenizer.chat(spec, [*user("x" * 600), *user("y" * 600)])


async def test_tokenizer_checks_and_counts_the_texts_of_tools_and_calls(tokenizer, spec):
    calls = [{"function": {"name": "f", "arguments": {"a\0": 1}}}]
    for messages, tools, param in (
        ([{**user("x")[0], "tool_calls": calls}], None, "messages"),
        (user("x"), [{"function": {"parameters": {"enum": [OPEN]}}}], "tools"),
    ):
        with pytest.raises(InvalidRequestError, match="noncharacter") as caught:
            await tokenizer.chat(spec, messages, tools=tools)
        assert caught.value.param == param
    with pytest.raises(PayloadTooLargeError, match="1200 characters"):
        await tokenizer.chat(spec, user("x" * 600), tools=[{"": "y" * 600}])


async def test_tokenizer_gives_tools_to_the_template(tokenizer, spec):
    own = dataclasses.replace(spec, chat_template="{{ tools[0].name }}")
    ids = await tokenizer.chat(own, user("x"), tools=[{"name": f"weather{TURN_END}"}])
    assert await tokenizer.detokenize(spec, ids, "tokens") == f"weather{TURN_END}"
    assert len(ids) > 2


@pytest.mark.parametrize("token_id", [-1, 49152, 2**40])
async def test_tokenizer_names_a_token_id_that_does_not_exist(tokenizer, spec, token_id):
    with pytest.raises(InvalidRequestError, match=rf"{token_id} is not a token .*0 to 49151"):
        await tokenizer.detokenize(spec, [1, token_id], "tokens")


async def test_tokenizer_says_when_a_model_has_no_template(tokenizer, spec):
    with pytest.raises(InvalidRequestError, match="no chat template") as caught:
        await tokenizer.chat(dataclasses.replace(spec, chat_template=""), user("hi"))
    assert caught.value.code == "no_chat_template"


async def test_tokenizer_says_when_the_file_cannot_be_read(tokenizer, spec, tmp_path):
    gone = dataclasses.replace(spec, path=str(tmp_path / "gone.gguf"))
    with pytest.raises(TemporaryResourceError, match="does not exist"):
        await tokenizer.text(gone, "hi", "input")
