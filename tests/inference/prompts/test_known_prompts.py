"""Prompts that come again: the same ids, without the prompt process."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.prompts.known_prompts import ENTRY_IDS, KnownPrompts
from inference.prompts.tokenizer import Tokenizer
from models_registry.rules.spec import ModelSpec
from tests.models_registry import gguf_samples

TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"
OTHER_TOKENS = ["<s>", "</s>", "b", "a", "ab", "x"]


class CountingTokenizer(Tokenizer):
    """Counts the calls of the prompt process."""

    calls = 0

    async def _run(self, param: str, function: Callable[..., Any], *args: Any) -> Any:
        self.calls += 1
        return await super()._run(param, function, *args)


@pytest.fixture(scope="module")
def shared() -> Iterator[CountingTokenizer]:
    subject = CountingTokenizer(1, 100_000)
    yield subject
    subject.close()


@pytest.fixture
def tokenizer(shared: CountingTokenizer) -> CountingTokenizer:
    """A cache with nothing in memory."""
    shared._known, shared.calls = KnownPrompts(), 0
    return shared


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    path = str(gguf_samples.write_llama(tmp_path / "m.gguf"))
    return ModelSpec("m", "m@1", "text_generation", path, TEMPLATE, 512, 512, 1)


def said(*contents: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content} for content in contents]


def replace_file(path: Path) -> None:
    """Put another file of the same size and time there."""
    before = path.stat()
    new = gguf_samples.write_llama(path.with_name("new.gguf"))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(new, path)


async def test_prompt_that_comes_again_skips_the_prompt_process(
    tokenizer: CountingTokenizer, spec: ModelSpec
):
    first = await tokenizer.chat(spec, said("ab"))
    first.append(99)  # a caller may change its list
    again = await tokenizer.chat(spec, said("ab"))
    assert again == first[:-1]
    text = await tokenizer.text(spec, "ab", "prompt")
    assert await tokenizer.text(spec, "ab", "prompt") == text
    assert tokenizer.calls == 2


async def test_prompt_that_differs_in_anything_is_another(
    tokenizer: CountingTokenizer, spec: ModelSpec
):
    other = dataclasses.replace(spec, chat_template=TEMPLATE + "x")
    await tokenizer.chat(spec, said("ab"))
    await tokenizer.chat(other, said("ab"))
    await tokenizer.chat(spec, said("a", "b"))
    await tokenizer.chat(spec, said("ab"), tools=[{"name": "f"}])
    await tokenizer.chat(spec, said("ab"), variables={"x": 1})
    await tokenizer.chat(spec, said("ab"), variables={"x": True})
    await tokenizer.chat(spec, said("ab"), add_generation_prompt=False)
    await tokenizer.text(spec, "ab", "prompt")
    await tokenizer.text(spec, "ab", "prompt", marks="all")
    await tokenizer.text(spec, "ab", "prompt", add_special=False)
    assert tokenizer.calls == 10


async def test_prompt_of_a_replaced_file_is_another(
    tokenizer: CountingTokenizer, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
):
    old = await tokenizer.text(spec, "a", "prompt", add_special=False)
    monkeypatch.setattr(gguf_samples, "TOKENS", OTHER_TOKENS)
    replace_file(Path(spec.path))
    assert (old, await tokenizer.text(spec, "a", "prompt", add_special=False)) == ([2], [3])


async def test_prompt_of_a_template_with_a_clock_or_dice_is_not_kept(
    tokenizer: CountingTokenizer, spec: ModelSpec
):
    for expression in ("{{ strftime_now('%d') }}", "{{ ['a', 'b'] | random }}", "{{ lipsum(1) }}"):
        own = dataclasses.replace(spec, chat_template=TEMPLATE + expression)
        await tokenizer.chat(own, said("a"))
        await tokenizer.chat(own, said("a"))
    assert tokenizer.calls == 6


def test_least_recently_used_prompts_leave_when_there_is_no_room():
    known = KnownPrompts(3 * (ENTRY_IDS + 10))
    a, b, c, d = (bytes([number]) for number in range(4))
    for key in (a, b, c):
        known.keep(key, [7] * 10)
    assert known.find(a) == [7] * 10
    known.keep(d, [8] * 10)
    assert [known.find(key) is not None for key in (a, b, c, d)] == [True, False, True, True]
    known.keep(b, [9] * 400)  # more than all the room
    assert [known.find(key) for key in (a, b, c, d)] == [None] * 4
    known.keep(a, [1])
    assert known.find(a) == [1]
