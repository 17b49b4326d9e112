"""Structured output: every schema and grammar is refused with a reason, or answers match it.

On SmolLM2's own vocabulary; where it is not the model that speaks, tokens are drawn at random.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings

from inference.engine.backend import DecodeOutcome, GrammarError, Span
from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.engine.grammar import GrammarCompiler, GrammarMatcher
from inference.errors import InvalidRequestError
from inference.messages import Generation, SamplingParameters
from inference.orders.grammar import lark_text
from inference.orders.json_schema import read_schema, schema_text
from inference.prompts.grammar_check import COMPILE_SECONDS, check_grammar
from inference.prompts.vocabulary import Vocabulary
from tests.contract.schemas import (
    ANY_SCHEMA,
    CONSTRAINING_GRAMMARS,
    CONSTRAINING_SCHEMAS,
    REFUSED_GRAMMARS,
    REFUSED_SCHEMAS,
)
from tests.contract.subjects import GREEDY, MAX_SEQUENCES, STEP_TOKENS, Subject
from tests.inference.engine.generations import complete, ending, text_of

PARAM = "response_format"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
# Of processor time, for one mask; usual are 0.05 ms.
SLOW_MASK_SECONDS = 0.05


def grammar_for(schema: dict[str, Any]) -> str:
    return f"start: %json {schema_text(read_schema(schema, PARAM))}"


def spoken(
    subject: Subject, grammar: str, sampling: SamplingParameters, output: list[int], count: int
) -> list[int]:
    """Tokens that a new sampler says after ``output``, each from logits of its own."""
    sampler = subject.backend.new_sampler(sampling, [], output, grammar)
    said: list[int] = []
    for _ in range(count):
        subject.backend.truncate(0, 0)
        subject.prefill(0, [*subject.encode("one two"), *output, *said])
        said.append(subject.backend.sample(sampler, 0))
    subject.backend.free_sampler(sampler)
    return said


@dataclass(frozen=True)
class Speaker:
    """Draws answers at random, inclined to short tokens and to an end."""

    vocabulary: Vocabulary  # which the compiler may not outlive
    compiler: GrammarCompiler
    pieces: list[bytes]
    inclination: npt.NDArray[np.float32]
    ends: frozenset[int]

    def answer(self, grammar: str, max_tokens: int) -> tuple[str, bool]:
        """Text of up to ``max_tokens`` tokens, and whether it has come to its end."""
        draw = np.random.default_rng(0)
        matcher = self.compiler.matcher(grammar)
        said: list[int] = []
        while len(said) < max_tokens:
            logits = draw.gumbel(size=len(self.pieces)).astype(np.float32) + self.inclination
            self._restrict(matcher, logits)
            token_id = int(logits.argmax())
            assert np.isfinite(logits[token_id])
            matcher.consume([token_id])
            if token_id in self.ends:
                return self._text(said), True
            said.append(token_id)
        return self._text(said), False

    def _restrict(self, matcher: GrammarMatcher, logits: npt.NDArray[np.float32]) -> None:
        started = time.thread_time()
        matcher.restrict(logits)
        assert time.thread_time() - started < SLOW_MASK_SECONDS

    def _text(self, token_ids: list[int]) -> str:
        # The last character may be cut.
        return b"".join(self.pieces[token_id] for token_id in token_ids).decode("utf-8", "ignore")


@pytest.fixture(scope="module")
def speaker(loaded_llama: Subject, smollm2_path: Path) -> Speaker:
    vocabulary = Vocabulary(smollm2_path)
    tokenizer = vocabulary.grammar_tokenizer()
    assert tokenizer is not None
    pieces = [loaded_llama.backend.piece(token) for token in range(tokenizer.vocab_size)]
    inclination = np.array(
        [
            1.5 * (len(piece) < 3) + 3 * bool(re.fullmatch(rb'["}\],:0]+', piece))
            for piece in pieces
        ],
        dtype=np.float32,
    )
    ends = frozenset(tokenizer.eos_tokens)
    inclination[list(ends)] = 6
    return Speaker(vocabulary, GrammarCompiler(tokenizer), pieces, inclination, ends)


@pytest.fixture(scope="module")
def check(smollm2_path: Path) -> Callable[[str], None]:
    """The work of the prompt process, in this process."""
    return lambda grammar: check_grammar(str(smollm2_path), grammar)


@pytest.mark.parametrize("name", REFUSED_SCHEMAS)
def test_structured_refuses_a_schema_with_a_reason(name, check):
    schema, reason = REFUSED_SCHEMAS[name]
    with pytest.raises((InvalidRequestError, GrammarError)) as caught:
        check(grammar_for(schema))
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", CONSTRAINING_SCHEMAS)
def test_structured_holds_answers_to_an_odd_schema(name, check, speaker: Speaker):
    schema = CONSTRAINING_SCHEMAS[name]
    check(grammar_for(schema))
    text, whole = speaker.answer(grammar_for(schema), 40)
    assert text
    if whole:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))


@pytest.mark.parametrize("name", REFUSED_GRAMMARS)
def test_structured_refuses_a_grammar_with_a_reason(name, check):
    text, reason = REFUSED_GRAMMARS[name]
    with pytest.raises((InvalidRequestError, GrammarError)) as caught:
        check(lark_text(text, "grammar"))
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", CONSTRAINING_GRAMMARS)
def test_structured_holds_answers_to_an_odd_grammar(name, check, speaker: Speaker):
    grammar = lark_text(CONSTRAINING_GRAMMARS[name], "grammar")
    check(grammar)
    text, _ = speaker.answer(grammar, 40)
    assert re.fullmatch("[ab]*", text)


def test_structured_gives_up_what_takes_ever_longer(speaker: Speaker):
    matcher = speaker.compiler.matcher(CONSTRAINING_GRAMMARS["ambiguous"])
    letter = [speaker.pieces.index(b"a")]

    def go_on(tokens: int) -> None:
        for _ in range(tokens):
            matcher.excluded()
            matcher.consume(letter)

    go_on(20)
    with pytest.raises(GrammarError, match="too long"):
        go_on(480)


def test_structured_holds_answers_to_any_schema(speaker: Speaker, check):
    compiled, whole = 0, 0

    @settings(
        max_examples=500,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(ANY_SCHEMA)
    def each(schema: dict[str, Any]) -> None:
        nonlocal compiled, whole
        started = time.process_time()
        try:
            check(grammar_for(schema))
        except (InvalidRequestError, GrammarError):
            assert time.process_time() - started < 2 * COMPILE_SECONDS
            return
        compiled += 1
        text, ended = speaker.answer(grammar_for(schema), 100)
        if ended:
            whole += 1
            jsonschema.Draft202012Validator(schema).validate(json.loads(text))

    each()
    assert compiled > 200
    assert whole > 150


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("schema", [PERSON, {"type": "object", "maxProperties": 2}, {"const": 7}])
def test_structured_answers_of_the_model_are_valid(llama: Subject, schema, temperature):
    sampling = SamplingParameters(temperature=temperature, seed=5)
    prompt = llama.encode("A JSON object that describes a person:\n")
    item = Generation("1", "m:1", prompt, 120, sampling, grammar=grammar_for(schema))
    config = EngineConfig(llama.kv_cells, MAX_SEQUENCES, STEP_TOKENS, 16)
    frames = complete(Engine(llama.backend, config), item)["1"]
    assert ending(frames).reason == "stop"
    jsonschema.Draft202012Validator(schema).validate(json.loads(text_of(frames)))


def test_structured_answer_goes_on_where_it_was(subject: Subject):
    """Continue like the next host after a death, which must take up the text already sent."""
    sampling = SamplingParameters(temperature=1.0, seed=1)
    said: list[int] = []
    while not said or not subject.backend.ends_generation(said[-1]):
        said += spoken(subject, r"start: /(one|two){3}[.]/", sampling, said, 1)
    text = b"".join(map(subject.backend.piece, said)).decode()
    assert re.fullmatch(r"(one|two){3}[.]", text)


def test_structured_sampler_follows_over_several_outputs(subject: Subject):
    """Take several tokens from the logits of one decode, like guessed tokens."""
    tokens = subject.encode("one two three four five")
    outputs = min(4, len(tokens))
    span = Span(0, 0, tokens, outputs=outputs)
    assert subject.backend.decode([span]) is DecodeOutcome.DONE
    sampler = subject.backend.new_sampler(GREEDY, [], [], 'start: "abc" /[a-z]*/')
    said = [subject.backend.sample(sampler, 0, output) for output in range(outputs)]
    subject.backend.free_sampler(sampler)
    assert b"".join(map(subject.backend.piece, said)).startswith(b"abc")


@pytest.mark.parametrize(("output", "grammar"), [("x", 'start: "y"'), ("", "start: (")])
def test_structured_sampler_refuses_what_cannot_match(subject: Subject, output, grammar):
    with pytest.raises(GrammarError):
        subject.backend.new_sampler(SamplingParameters(), [], subject.encode(output), grammar)


def test_structured_control_tokens_are_no_text(llama: Subject):
    """Neither the end of an answer nor any other control token stands in a text of any kind."""
    text = 'start: /(?s:.)+/ "§"'
    llama.prefill(0, llama.encode("Hello"))
    logits = llama.backend.logits(0)
    logits[llama.end_token] = 100.0
    sampler = llama.backend.new_sampler(SamplingParameters(temperature=0.0), [], [], text)
    token_id = llama.backend.sample(sampler, 0)
    llama.backend.free_sampler(sampler)
    assert token_id != llama.end_token
    assert llama.backend.piece(token_id)
