"""all-MiniLM-L6-v2 through the embedding engine: the published similarities."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from inference.engine.backend import ModelLoadError
from inference.engine.embedding import EmbeddingEngine
from inference.engine.llama.embedding_backend import LlamaEmbeddingBackend
from inference.engine.llama.runtime import LlamaOptions
from inference.messages import Embedding, Vectors
from inference.prompts.vocabulary import Vocabulary

HAPPY, VERY_HAPPY, SUNNY = (
    "That is a happy person",
    "That is a very happy person",
    "Today is a sunny day",
)


@pytest.fixture(scope="module")
def backend(minilm_path: Path) -> Iterator[LlamaEmbeddingBackend]:
    loaded = LlamaEmbeddingBackend(
        minilm_path, step_tokens=512, max_inputs=4, options=LlamaOptions(threads=2)
    )
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def vocabulary(minilm_path: Path) -> Vocabulary:
    return Vocabulary(minilm_path)


def embed(
    backend: LlamaEmbeddingBackend, vocabulary: Vocabulary, texts: list[str]
) -> npt.NDArray[np.float32]:
    tokens = [vocabulary.tokenize(text, add_special=True, parse_control=False) for text in texts]
    engine = EmbeddingEngine(backend)
    outputs = engine.submit(Embedding("e", "minilm:1", tokens))
    while not engine.is_idle:
        outputs += engine.step()
    (vectors,) = (frame for _, frame in outputs if isinstance(frame, Vectors))
    return np.frombuffer(vectors.data, dtype="<f4").reshape(len(texts), vectors.dimensions)


def test_llama_embedding_gives_the_published_similarities(backend, vocabulary):
    happy, very_happy, sunny = embed(backend, vocabulary, [HAPPY, VERY_HAPPY, SUNNY])
    assert happy.shape == (384,)
    assert float(happy @ very_happy) == pytest.approx(0.943, abs=0.002)
    assert float(happy @ sunny) == pytest.approx(0.257, abs=0.002)


def test_llama_embedding_of_a_text_does_not_depend_on_its_batch(backend, vocabulary):
    texts = [HAPPY, SUNNY * 30, VERY_HAPPY, SUNNY, HAPPY, "x"]
    together = embed(backend, vocabulary, texts)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    for text, row in zip(texts, together, strict=True):
        (alone,) = embed(backend, vocabulary, [text])
        assert float(alone @ row) > 0.9999


def test_llama_embedding_takes_its_longest_input(backend, vocabulary):
    assert backend.max_input_tokens == 512
    longest = [vocabulary.tokenize("a " * 600, add_special=True, parse_control=False)[:512]]
    assert backend.embed(longest).shape == (1, 384)


def test_llama_embedding_refuses_a_model_that_gives_no_vectors(smollm2_path: Path):
    with pytest.raises(ModelLoadError, match="names no pooling"):
        LlamaEmbeddingBackend(
            smollm2_path, step_tokens=64, max_inputs=1, options=LlamaOptions(threads=1)
        )
