"""Models whose memory is of another kind: attention over a window, and a recurrent state."""

from collections.abc import Iterator

import pytest

from inference.engine.config import EngineConfig
from inference.engine.engine import Engine
from inference.engine.llama.generation_backend import LlamaBackend
from inference.engine.llama.runtime import LlamaOptions
from inference.messages import Generation
from inference.prompts.vocabulary import Vocabulary
from tests.contract.recurrent_model import FIRST_BYTE, write_mamba
from tests.contract.subjects import GREEDY
from tests.inference.engine.generations import complete, ending, tokens_of
from tests.model_files import model_file

GEMMA_WINDOW_TOKENS = 512
NEW_TOKENS = 16


@pytest.fixture(scope="module")
def gemma() -> Iterator[tuple[LlamaBackend, Vocabulary]]:
    """Gemma 3 270M: most of its layers see the last 512 tokens only."""
    path = model_file("gemma3-270m")
    config = EngineConfig(2048, 2, kept_sequences=4)
    backend = LlamaBackend(path, config, LlamaOptions(threads=2))
    yield backend, Vocabulary(path)
    backend.close()


def test_llama_shares_a_beginning_longer_than_the_window_of_attention(gemma):
    backend, vocabulary = gemma
    assert not backend.recurrent
    facts = [f"Fact {n}: the lighthouse number {n} has {n % 7} lamps.\n" for n in range(60)]
    beginning = vocabulary.tokenize("".join(facts), add_special=True, parse_control=False)
    assert len(beginning) > 1.5 * GEMMA_WINDOW_TOKENS

    def prompt(end: str) -> list[int]:
        return [*beginning, *vocabulary.tokenize(end, add_special=False, parse_control=False)]

    def generation(id_: str, tokens: list[int]) -> Generation:
        return Generation(id_, "gemma:1", tokens, NEW_TOKENS, GREEDY, ignore_eos=True)

    wanted = generation("wanted", prompt("Fact 60: the lighthouse number"))
    alone = Engine(backend, EngineConfig(2048, 2, shares_prefixes=False, kept_sequences=4))
    without = complete(alone, wanted)["wanted"]

    engine = Engine(backend, EngineConfig(2048, 2, kept_sequences=4))
    complete(engine, generation("first", prompt("Story: once upon a time")))
    shared = complete(engine, wanted)["wanted"]
    assert ending(shared).usage.cached_tokens >= len(beginning) > GEMMA_WINDOW_TOKENS
    assert tokens_of(shared) == tokens_of(without)


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaBackend]:
    """A Mamba with random weights."""
    path = tmp_path_factory.mktemp("models") / "mamba.gguf"
    write_mamba(path)
    backend = LlamaBackend(
        path, EngineConfig(256, 4, step_tokens=64, kept_sequences=0), LlamaOptions(threads=1)
    )
    yield backend
    backend.close()


def test_llama_generates_with_a_recurrent_model_also_when_cells_run_out(recurrent: LlamaBackend):
    assert recurrent.recurrent
    wanted = [
        Generation(
            f"g{n}",
            "mamba:1",
            [FIRST_BYTE + byte for byte in b"%d is a prompt" % n],
            40,
            GREEDY,
            ignore_eos=True,
        )
        for n in range(4)
    ]

    def texts(kv_cells: int, *items: Generation) -> list[list[int]]:
        config = EngineConfig(kv_cells, 4, 64, kept_sequences=0, shares_prefixes=False)
        engine = Engine(recurrent, config)
        frames = complete(engine, *items)
        assert engine.used_cells == 0
        return [tokens_of(frames[item.id]) for item in items]

    alone = [texts(256, item)[0] for item in wanted]
    assert len({tuple(tokens) for tokens in alone}) == 4
    assert texts(256, *wanted) == alone
    # All four together need 220 cells, so some give way and begin again.
    assert texts(96, *wanted) == alone
