"""Drafts checked against a backend, fake and real: the text is what it is without them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.engine.backend import DecodeOutcome, ModelLoadError, Span
from inference.engine.config import EngineConfig
from inference.engine.drafting.drafter import Drafter, DraftRequest
from inference.engine.drafting.model_drafter import ModelDrafter
from inference.engine.drafting.ngram_drafter import NgramDrafter
from inference.engine.llama.generation_backend import LlamaBackend
from inference.engine.llama.runtime import LlamaOptions
from inference.messages import SamplingParameters
from tests.contract.conftest import THREADS
from tests.contract.subjects import GREEDY, Subject
from tests.inference.engine.fake_backend import FakeBackend

KV_CELLS = 1024
STEP_TOKENS = 128
SEQUENCES = 2
NO_DRAFTS: list[list[int]] = [[]] * SEQUENCES
DRAFT_TOKENS = 3
LIST = "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, Monday, Tuesday,"
STORY = "Once upon a time there was a"
WARM = SamplingParameters(temperature=0.7, seed=7)
CONFIG = EngineConfig(KV_CELLS, SEQUENCES, step_tokens=STEP_TOKENS, kept_sequences=0)


@pytest.fixture(scope="module")
def draft_llama(smollm2_path: Path) -> Iterator[LlamaBackend]:
    """SmolLM2 once more, to draft for itself."""
    backend = LlamaBackend(smollm2_path, CONFIG, LlamaOptions(threads=THREADS))
    yield backend
    backend.close()


@pytest.fixture
def model_drafter(subject: Subject, request: pytest.FixtureRequest) -> Iterator[ModelDrafter]:
    """The subject's own model as its draft model."""
    if isinstance(subject.backend, FakeBackend):
        draft_backend = FakeBackend(KV_CELLS)
    else:
        draft_backend = request.getfixturevalue("draft_llama")
    drafter = ModelDrafter(draft_backend, subject.backend, CONFIG)
    yield drafter
    for key in range(SEQUENCES):
        drafter.forget(key)
        assert draft_backend.stored_tokens(key) == 0


def generate(
    subject: Subject,
    texts: list[list[int]],
    count: int,
    sampling: SamplingParameters,
    drafter: Drafter | None = None,
) -> tuple[list[list[int]], float]:
    """``count`` tokens after each text, all in one batch a step; the share of right guesses."""
    backend = subject.backend
    wholes = [list(text) for text in texts]
    samplers = [backend.new_sampler(sampling, text, []) for text in texts]
    for slot, text in enumerate(texts):
        if text[:-1]:
            assert backend.decode([Span(slot, 0, text[:-1], 0)]) is DecodeOutcome.DONE
    drafted = right = 0
    while any(len(whole) < len(text) + count for whole, text in zip(wholes, texts, strict=True)):
        requests = [
            DraftRequest(slot, whole, max(0, min(DRAFT_TOKENS, len(text) + count - len(whole) - 1)))
            for slot, (whole, text) in enumerate(zip(wholes, texts, strict=True))
        ]
        drafts = [each.token_ids for each in drafter.propose(requests)] if drafter else NO_DRAFTS
        spans = [
            Span(slot, len(whole) - 1, [whole[-1], *draft], len(draft) + 1)
            for slot, (whole, draft) in enumerate(zip(wholes, drafts, strict=True))
        ]
        assert backend.decode(spans) is DecodeOutcome.DONE
        for slot, (whole, draft) in enumerate(zip(wholes, drafts, strict=True)):
            drafted += len(draft)
            for output, guess in enumerate([*draft, None]):
                whole.append(backend.sample(samplers[slot], slot, output))
                if whole[-1] != guess:
                    break
                right += 1
            backend.truncate(slot, len(whole) - 1)
    for sampler in samplers:
        backend.free_sampler(sampler)
    subject.forget_all()
    answers = [whole[len(text) :][:count] for whole, text in zip(wholes, texts, strict=True)]
    return answers, right / max(drafted, 1)


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
def test_drafting_by_lookup_does_not_change_the_text(
    subject: Subject, sampling: SamplingParameters
):
    texts = [subject.encode(LIST), subject.encode(STORY)]
    plain, _ = generate(subject, texts, 16, sampling)
    drafted, _ = generate(subject, texts, 16, sampling, NgramDrafter())
    assert drafted == plain


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
def test_drafting_by_a_model_does_not_change_the_text(
    subject: Subject, model_drafter: ModelDrafter, sampling: SamplingParameters
):
    texts = [subject.encode(LIST), subject.encode(STORY)]
    plain, _ = generate(subject, texts, 16, sampling)
    drafted, _ = generate(subject, texts, 16, sampling, model_drafter)
    assert drafted == plain


def test_drafting_by_the_model_itself_is_nearly_always_right(
    subject: Subject, model_drafter: ModelDrafter
):
    texts = [subject.encode(LIST), subject.encode(STORY)]
    _, share = generate(subject, texts, 16, GREEDY, model_drafter)
    assert share > 0.9


def test_drafting_by_lookup_finds_what_repeats_itself(llama: Subject):
    texts = [llama.encode(LIST), llama.encode(LIST.replace("day", " day"))]
    _, share = generate(llama, texts, 16, GREEDY, NgramDrafter())
    assert share > 0.6


def test_drafting_refuses_a_model_of_another_vocabulary(llama: Subject):
    with pytest.raises(ModelLoadError, match="same family"):
        ModelDrafter(FakeBackend(64), llama.backend, EngineConfig(64, 1, step_tokens=64))
