"""Grammars in the prompt process: the reasons come back, and a crash harms nobody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.errors import InvalidRequestError
from inference.prompts.tokenizer import Tokenizer
from models_registry.rules.spec import ModelSpec

# Overflows llguidance's stack; the API refuses so many lines.
CHAIN = "start: r0\n" + "\n".join(f'r{i}: r{i + 1} "x"' for i in range(30_000)) + '\nr30000: "a"'


@pytest.fixture(scope="module")
def tokenizer() -> Iterator[Tokenizer]:
    subject = Tokenizer(1, 100_000)
    yield subject
    subject.close()


@pytest.fixture
def spec(smollm2_path: Path) -> ModelSpec:
    return ModelSpec("m", "m:1", "text_generation", str(smollm2_path), "", 8192, 8192, 8)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ('start: "a" (', "Expected"),
        ("start: start", "no text matches it"),
        ('start: %json {"enum": []}', "anyOf is empty"),
        pytest.param(CHAIN, "ended twice", id="crash"),
    ],
)
async def test_grammar_check_gives_the_reason(tokenizer, spec, grammar, reason):
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        await tokenizer.check_grammar(spec, grammar, "grammar")
    assert caught.value.param == "grammar"
    assert "llguidance" not in caught.value.message
    await tokenizer.check_grammar(spec, 'start: "a"', "grammar")


async def test_grammar_check_refuses_slow_grammars(tokenizer, spec):
    names = ", ".join(f'"p{i}": {{}}' for i in range(3000))
    slow = f'start: %json {{"type": "object", "properties": {{{names}}}}}'
    with pytest.raises(InvalidRequestError, match="too long to compile"):
        await tokenizer.check_grammar(spec, slow, "grammar")
