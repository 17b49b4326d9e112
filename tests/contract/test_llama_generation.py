"""The engine on the real model: llama.cpp's own text, and sampling that does what it says."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.engine.backend import ModelLoadError
from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.engine.llama.generation_backend import LlamaBackend
from inference.engine.llama.runtime import LlamaOptions
from inference.messages import Delta, Frame, Generation, SamplingParameters
from tests.contract.subjects import GREEDY, MAX_SEQUENCES, STEP_TOKENS, Subject
from tests.inference.engine.generations import complete, ending, text_of, tokens_of

STORY = (
    "<|im_start|>user\nTell me a short story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n"
)
PROMPTS = [STORY, "The capital of France is", "def add(a, b):\n    return"]


@pytest.fixture
def engine(llama: Subject) -> Engine:
    """An engine over SmolLM2."""
    config = EngineConfig(llama.kv_cells, MAX_SEQUENCES, STEP_TOKENS)
    return Engine(llama.backend, config)


def run(engine: Engine, tokens: list[int], **fields: Any) -> list[Frame]:
    fields = {"max_tokens": 16, "sampling": GREEDY, **fields}
    return complete(engine, Generation("g", "smollm2:1", tokens, **fields))["g"]


@pytest.fixture(scope="module")
def reference(smollm2_path: Path) -> Iterator[Any]:
    """llama-cpp-python's own way to generate, with the attention that llama.cpp itself chooses.

    The other one rounds differently, by up to 1 in a logit, which changes a close decision.
    """
    import llama_cpp

    threads = min(2, os.cpu_count() or 1)
    model = llama_cpp.Llama(
        str(smollm2_path),
        n_ctx=2048,
        n_threads=threads,
        n_threads_batch=threads,
        flash_attn=True,
        verbose=False,
    )
    yield model
    model.close()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_llama_greedy_text_is_llama_cpps_own(engine: Engine, reference: Any, prompt: str):
    tokens = reference.tokenize(prompt.encode(), add_bos=False, special=True)
    wanted: list[int] = []
    for token in reference.generate(tokens, temp=0.0, top_k=1, repeat_penalty=1.0):
        if len(wanted) == 32 or engine.backend.ends_generation(token):
            break
        wanted.append(token)
    frames = run(engine, tokens, max_tokens=32)
    assert tokens_of(frames) == wanted
    assert text_of(frames) == reference.detokenize(wanted).decode()


def test_llama_seed_decides_the_text(engine: Engine, llama: Subject):
    tokens = llama.encode("Once upon a time")

    def text(seed: int) -> str:
        return text_of(run(engine, tokens, sampling=SamplingParameters(temperature=1.2, seed=seed)))

    assert text(11) == text(11) != text(12)


def test_llama_logit_bias_forces_and_bans_tokens(engine: Engine, llama: Subject):
    tokens = llama.encode("The capital of France is")
    paris = run(engine, tokens, max_tokens=1)
    assert text_of(paris) == " Paris"
    (forced,) = llama.encode(" London")
    bias = SamplingParameters(temperature=0.0, logit_bias={forced: 100.0})
    assert text_of(run(engine, tokens, max_tokens=3, sampling=bias)) == " London" * 3
    ban = SamplingParameters(temperature=0.0, logit_bias={tokens_of(paris)[0]: -100.0})
    assert " Paris" not in text_of(run(engine, tokens, max_tokens=3, sampling=ban))


@pytest.mark.parametrize(
    "penalty", [{"presence_penalty": 20.0}, {"frequency_penalty": 2.0}, {"repeat_penalty": 2.0}]
)
def test_llama_penalties_end_a_repetition(engine: Engine, llama: Subject, penalty: dict):
    tokens = llama.encode("1" + ",1" * 20)
    assert len(set(tokens_of(run(engine, tokens)))) == 2
    penalised = SamplingParameters(temperature=0.0, **penalty)
    assert len(set(tokens_of(run(engine, tokens, sampling=penalised)))) > 4


def test_llama_top_logprobs_are_probabilities(engine: Engine, llama: Subject):
    frames = run(engine, llama.encode("The capital of France is"), top_logprobs=20)
    entries = [entry for frame in frames if isinstance(frame, Delta) for entry in frame.logprobs]
    assert len(entries) == 16
    for entry, token in zip(entries, tokens_of(frames), strict=True):
        shares = [math.exp(value) for _, _, value in entry.top]
        assert len(shares) == 20
        assert shares == sorted(shares, reverse=True)
        assert 0.2 < sum(shares) <= 1.0 + 1e-6
        assert entry.top[0] == (entry.token, entry.token_bytes, entry.logprob)
        assert entry.token_bytes == llama.backend.token_name(token)


def test_llama_ends_an_answer_by_itself(engine: Engine, reference: Any):
    chat = "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n"
    tokens = reference.tokenize(chat.encode(), add_bos=False, special=True)
    frames = run(engine, tokens, max_tokens=200)
    assert ending(frames).reason == "stop"
    assert "<|im_end|>" not in text_of(frames)


def test_llama_continues_a_generation_with_exactly_the_rest(engine: Engine, llama: Subject):
    tokens = llama.encode("Monday, Tuesday, Wednesday,")
    whole = tokens_of(run(engine, tokens))
    rest = run(engine, tokens, emitted_token_ids=whole[:7], emitted_frames=8)
    assert tokens_of(rest) == whole[7:]


def test_llama_refuses_a_file_that_is_no_model(tmp_path: Path):
    missing, damaged = tmp_path / "missing.gguf", tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + bytes(100))
    config, options = EngineConfig(64, 1, step_tokens=64), LlamaOptions(threads=1)
    with pytest.raises(ModelLoadError, match="does not exist"):
        LlamaBackend(missing, config, options)
    with pytest.raises(ModelLoadError, match=r"could not load damaged\.gguf"):
        LlamaBackend(damaged, config, options)
