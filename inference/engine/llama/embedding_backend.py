from collections.abc import Callable
from pathlib import Path

import llama_cpp
import numpy as np
import numpy.typing as npt

from inference.engine.backend import BackendError, ModelLoadError, Span
from inference.engine.llama.runtime import (
    BatchBuffers,
    LlamaOptions,
    load_model,
    new_context,
)


class LlamaEmbeddingBackend:
    """The engine's ``EmbeddingBackend`` for BERT-type models; each text is a sequence."""

    def __init__(
        self,
        path: Path,
        *,
        step_tokens: int,
        max_inputs: int,
        options: LlamaOptions,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        """Raises ``ModelLoadError``, also when ``path`` is not an embedding model."""
        self.placement = options.placement()
        self._model = load_model(path, placement=self.placement, on_progress=on_progress)
        self.max_input_tokens = int(llama_cpp.llama_model_n_ctx_train(self._model))
        # An encoder attends in both directions, so a text must fit into one micro-batch.
        self.step_tokens = max(step_tokens, self.max_input_tokens)
        self.max_inputs = max_inputs
        self.dimensions = int(llama_cpp.llama_model_n_embd(self._model))
        parameters = options.context_parameters()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = self.step_tokens
        parameters.n_seq_max = max_inputs
        parameters.embeddings = True
        self._context = new_context(self._model, parameters)
        if llama_cpp.llama_pooling_type(self._context) == llama_cpp.LLAMA_POOLING_TYPE_NONE:
            raise ModelLoadError(
                f"{path.name} names no pooling, so it gives no vector per text. "
                "Register it as text_generation, or use an embedding model."
            )
        self._buffers = BatchBuffers(self.step_tokens)

    def embed(self, inputs: list[list[int]]) -> npt.NDArray[np.float32]:
        spans = [Span(i, 0, tokens, outputs=1) for i, tokens in enumerate(inputs)]
        self._buffers.fill(spans)
        self._buffers.request_all_outputs()
        memory = llama_cpp.llama_get_memory(self._context)
        if memory:
            llama_cpp.llama_memory_clear(memory, False)
        status = llama_cpp.llama_decode(self._context, self._buffers.batch)
        if status != 0:
            raise BackendError(f"llama_decode returned {status}")
        vectors = np.empty((len(inputs), self.dimensions), dtype=np.float32)
        for row in range(len(inputs)):
            pointer = llama_cpp.llama_get_embeddings_seq(self._context, row)
            if not pointer:
                raise BackendError(f"no embedding for text {row}")
            vectors[row] = np.ctypeslib.as_array(pointer, shape=(self.dimensions,))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)

    def close(self) -> None:
        if self._context:
            llama_cpp.llama_free(self._context)
            llama_cpp.llama_model_free(self._model)
            self._context = None
