"""llama.cpp behind the engine's ``Backend``, through llama-cpp-python's low-level API."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from inference.engine.backend import BackendError, DecodeOutcome, Span
from inference.engine.llama_runtime import (
    AbortFlag,
    BatchBuffers,
    load_model,
    new_context,
    token_bytes,
)
from inference.messages import SamplingParameters

# How many tokens the repeat penalty looks back on: llama.cpp's own default.
REPEAT_PENALTY_TOKENS = 64
_OUTCOMES = {0: DecodeOutcome.DONE, 1: DecodeOutcome.NO_CELLS, 2: DecodeOutcome.ABORTED}


class LlamaBackend:
    """One model on one device with a KV cache that all sequences share."""

    def __init__(
        self,
        path: Path,
        *,
        kv_cells: int,
        max_sequences: int,
        step_tokens: int,
        threads: int,
        gpu_layers: int = 0,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        """Load ``path``. Raises ``ModelLoadError`` with the reason when that fails."""
        self._model = load_model(path, gpu_layers=gpu_layers, on_progress=on_progress)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = kv_cells
        parameters.n_batch = step_tokens
        parameters.n_ubatch = min(step_tokens, 512)
        parameters.n_seq_max = max_sequences
        parameters.n_outputs_max = max_sequences
        parameters.kv_unified = True
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.no_perf = True
        self._context = new_context(self._model, parameters)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        self._buffers = BatchBuffers(step_tokens)
        self._rows: list[int] = []
        self._abort = AbortFlag(self._context)
        self.piece = lru_cache(maxsize=None)(self._piece)
        self.ends_generation = lru_cache(maxsize=None)(self._ends_generation)
        self._warm_up()

    def decode(self, spans: list[Span]) -> DecodeOutcome:
        """Compute spans in one ``llama_decode``."""
        self._rows = self._buffers.fill(spans)
        self._abort.clear()
        status = llama_cpp.llama_decode(self._context, self._buffers.batch)
        if status not in _OUTCOMES:
            raise BackendError(f"llama_decode returned {status}")
        return _OUTCOMES[status]

    def new_sampler(
        self, sampling: SamplingParameters, prompt: list[int], output: list[int]
    ) -> Any:
        """A sampler chain in llama.cpp's order, or None for plain greedy, which needs none."""
        if sampling.temperature == 0 and not _changes_logits(sampling):
            return None
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for link in self._links(sampling, prompt, output):
            llama_cpp.llama_sampler_chain_add(chain, link)
        return chain

    def free_sampler(self, sampler: Any) -> None:
        """Free a chain and its links."""
        llama_cpp.llama_sampler_free(sampler)

    def sample(self, sampler: Any, span_index: int) -> int:
        """The next token after a span of the last decode."""
        if sampler is None:
            return int(self.logits(span_index).argmax())
        return int(llama_cpp.llama_sampler_sample(sampler, self._context, self._rows[span_index]))

    def logits(self, span_index: int) -> npt.NDArray[np.float32]:
        """Raw logits of a span's last token, a view into llama.cpp's buffer."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, self._rows[span_index])
        if not pointer:
            raise BackendError(f"no logits for row {self._rows[span_index]}")
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary_size,))

    def truncate(self, sequence_id: int, length: int) -> None:
        """Remove a sequence's cells from position ``length`` on."""
        if not llama_cpp.llama_memory_seq_rm(self._memory, sequence_id, length, -1):
            raise BackendError(f"cannot cut sequence {sequence_id} at {length}")

    def stored_tokens(self, sequence_id: int) -> int:
        """Cells a sequence holds, from its last position."""
        return int(llama_cpp.llama_memory_seq_pos_max(self._memory, sequence_id)) + 1

    def token_name(self, token_id: int) -> bytes:
        """A token's bytes with control tokens spelled out."""
        return token_bytes(self._vocabulary, token_id, special=True)

    def abort(self) -> None:
        """Stop the decode in progress."""
        self._abort.set()

    def close(self) -> None:
        """Free context and model."""
        if self._context:
            llama_cpp.llama_free(self._context)
            llama_cpp.llama_model_free(self._model)
            self._context = None

    def _piece(self, token_id: int) -> bytes:
        return token_bytes(self._vocabulary, token_id, special=False)

    def _ends_generation(self, token_id: int) -> bool:
        return bool(llama_cpp.llama_vocab_is_eog(self._vocabulary, token_id))

    def _links(
        self, sampling: SamplingParameters, prompt: list[int], output: list[int]
    ) -> list[Any]:
        """Samplers in the order of llama.cpp's default chain."""
        links = []
        size = self.vocabulary_size
        if sampling.logit_bias:
            entries = [
                llama_cpp.llama_logit_bias(token, bias)
                for token, bias in sampling.logit_bias.items()
            ]
            array = (llama_cpp.llama_logit_bias * len(entries))(*entries)
            links.append(llama_cpp.llama_sampler_init_logit_bias(size, len(entries), array))
        if sampling.repeat_penalty != 1.0:
            link = llama_cpp.llama_sampler_init_penalties(
                size, REPEAT_PENALTY_TOKENS, sampling.repeat_penalty, 0.0, 0.0
            )
            _accept(link, [*prompt, *output][-REPEAT_PENALTY_TOKENS:])
            links.append(link)
        if sampling.frequency_penalty or sampling.presence_penalty:
            # OpenAI's penalties count the answer alone, and all of it.
            look_back = llama_cpp.llama_n_ctx_seq(self._context)
            link = llama_cpp.llama_sampler_init_penalties(
                size, look_back, 1.0, sampling.frequency_penalty, sampling.presence_penalty
            )
            _accept(link, output)
            links.append(link)
        if sampling.temperature == 0:
            return [*links, llama_cpp.llama_sampler_init_greedy()]
        if sampling.top_k:
            links.append(llama_cpp.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            links.append(llama_cpp.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0:
            links.append(llama_cpp.llama_sampler_init_min_p(sampling.min_p, 1))
        links.append(llama_cpp.llama_sampler_init_temp(sampling.temperature))
        seed = llama_cpp.LLAMA_DEFAULT_SEED if sampling.seed is None else sampling.seed
        # A continued generation must not draw its first numbers again.
        links.append(llama_cpp.llama_sampler_init_dist((seed + len(output)) % 2**32))
        return links

    def _warm_up(self) -> None:
        """Run one token, so that the first client does not wait for pages to be read."""
        token = max(0, int(llama_cpp.llama_vocab_bos(self._vocabulary)))
        self.decode([Span(0, 0, [token], wants_logits=True)])
        llama_cpp.llama_memory_clear(self._memory, True)


def _changes_logits(sampling: SamplingParameters) -> bool:
    return bool(
        sampling.logit_bias
        or sampling.presence_penalty
        or sampling.frequency_penalty
        or sampling.repeat_penalty != 1.0
    )


def _accept(link: Any, token_ids: list[int]) -> None:
    for token_id in token_ids:
        llama_cpp.llama_sampler_accept(link, token_id)
