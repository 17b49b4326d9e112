from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import llama_cpp
import numpy as np
import numpy.typing as npt

from inference.engine.backend import BackendError, DecodeOutcome, Span
from inference.engine.config import EngineConfig
from inference.engine.grammar import DeferredCompiler
from inference.engine.llama.grammar_tokenizer import grammar_tokenizer
from inference.engine.llama.runtime import (
    AbortFlag,
    BatchBuffers,
    LlamaOptions,
    load_model,
    new_context,
    token_bytes,
)
from inference.engine.llama.sampler import LlamaSampler
from inference.messages import SamplingParameters

_OUTCOMES = {0: DecodeOutcome.DONE, 1: DecodeOutcome.NO_CELLS, 2: DecodeOutcome.ABORTED}


class LlamaBackend:
    """The engine's ``Backend`` on llama-cpp-python's low-level API."""

    def __init__(
        self,
        path: Path,
        config: EngineConfig,
        options: LlamaOptions,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        """Raises ``ModelLoadError``."""
        self.placement = options.placement()
        self._model = load_model(path, placement=self.placement, on_progress=on_progress)
        parameters = options.context_parameters()
        parameters.n_ctx = config.kv_cells
        parameters.n_batch = config.step_tokens
        parameters.n_ubatch = min(config.step_tokens, 512)
        parameters.n_seq_max = config.max_sequences + config.kept_sequences
        parameters.n_outputs_max = config.step_outputs
        self._context = new_context(self._model, parameters)
        self.recurrent = bool(
            llama_cpp.llama_model_is_recurrent(self._model)
            or llama_cpp.llama_model_is_hybrid(self._model)
        )
        self.tiled_pairs = options.tiled_pairs(self.placement)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self._grammars = DeferredCompiler(lambda: grammar_tokenizer(self._vocabulary))
        self._buffers = BatchBuffers(config.step_tokens)
        self._rows: list[int] = []
        self._abort = AbortFlag(self._context)
        self.piece = lru_cache(maxsize=None)(
            lambda token_id: token_bytes(self._vocabulary, token_id, special=False)
        )
        self.ends_generation = lru_cache(maxsize=None)(
            lambda token_id: bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token_id))
        )
        self._warm_up()

    def decode(self, spans: list[Span]) -> DecodeOutcome:
        self._rows = self._buffers.fill(spans)
        self._abort.clear()
        status = llama_cpp.llama_decode(self._context, self._buffers.batch)
        if status not in _OUTCOMES:
            raise BackendError(f"llama_decode returned {status}")
        # A GPU computes on after llama_decode has returned, and the engine measures this call.
        llama_cpp.llama_synchronize(self._context)
        return _OUTCOMES[status]

    def is_ready_for_grammars(self) -> bool:
        return self._grammars.is_ready()

    def new_sampler(
        self, sampling: SamplingParameters, prompt: list[int], output: list[int], grammar: str = ""
    ) -> LlamaSampler:
        matcher = None
        if grammar:
            matcher = self._grammars.get().matcher(grammar)
            matcher.consume(output)
        return LlamaSampler(self._context, self.vocabulary_size, sampling, prompt, output, matcher)

    def free_sampler(self, sampler: LlamaSampler) -> None:
        sampler.close()

    def sample(self, sampler: LlamaSampler, span_index: int, output: int = 0) -> int:
        return sampler.choose(self.logits(span_index, output), self._rows[span_index] + output)

    def logits(self, span_index: int, output: int = 0) -> npt.NDArray[np.float32]:
        row = self._rows[span_index] + output
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        if not pointer:
            raise BackendError(f"no logits for row {row}")
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary_size,))

    def truncate(self, sequence_id: int, length: int) -> None:
        if not llama_cpp.llama_memory_seq_rm(self._memory, sequence_id, length, -1):
            raise BackendError(f"cannot cut sequence {sequence_id} at {length}")

    def share(self, source: int, target: int, start: int, end: int) -> None:
        if not llama_cpp.llama_memory_seq_rm(self._memory, target, start, end):
            raise BackendError(f"cannot cut sequence {target} from {start} to {end}")
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, start, end)

    def stored_tokens(self, sequence_id: int) -> int:
        return int(llama_cpp.llama_memory_seq_pos_max(self._memory, sequence_id)) + 1

    def token_name(self, token_id: int) -> bytes:
        return token_bytes(self._vocabulary, token_id, special=True)

    def abort(self) -> None:
        self._abort.set()

    def close(self) -> None:
        self._grammars.finish()
        if self._context:
            llama_cpp.llama_free(self._context)
            llama_cpp.llama_model_free(self._model)
            self._context = None

    def _warm_up(self) -> None:
        """Run two small batches, so that the first client does not wait for pages to be read."""
        # One token and several use different code in llama.cpp: a broken build must crash now and
        # not under a client's request. One thread does it: more would keep the low priority of
        # loading, and wait for each other where a core is busy.
        threads = llama_cpp.llama_n_threads(self._context)
        llama_cpp.llama_set_n_threads(self._context, 1, 1)
        token = max(0, int(llama_cpp.llama_vocab_bos(self._vocabulary)))
        self.decode([Span(0, 0, [token], outputs=1)])
        self.decode([Span(0, 1, [token] * min(32, self._buffers.max_tokens), outputs=1)])
        llama_cpp.llama_memory_clear(self._memory, True)
        llama_cpp.llama_set_n_threads(self._context, threads, threads)
