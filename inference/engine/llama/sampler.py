from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt

from inference.engine.grammar import GrammarMatcher
from inference.messages import SEEDS, SamplingParameters

# The repeat penalty counts this many last tokens: llama.cpp's default.
REPEAT_PENALTY_TOKENS = 64


class LlamaSampler:
    """A sampler chain in llama.cpp's order; greedy sampling without penalties needs none.

    ``matcher`` restricts the tokens to a grammar; it has consumed ``output`` already.
    """

    def __init__(
        self,
        context: llama_cpp.llama_context_p,
        vocabulary_size: int,
        sampling: SamplingParameters,
        prompt: list[int],
        output: list[int],
        matcher: GrammarMatcher | None = None,
    ) -> None:
        self._context = context
        self._matcher = matcher
        self._chain: Any = None
        changes_logits = (
            sampling.logit_bias
            or sampling.presence_penalty
            or sampling.frequency_penalty
            or sampling.repeat_penalty != 1.0
        )
        if sampling.temperature == 0 and not changes_logits:
            return
        self._chain = llama_cpp.llama_sampler_chain_init(
            llama_cpp.llama_sampler_chain_default_params()
        )
        look_back = llama_cpp.llama_n_ctx_seq(context)
        for link in _links(sampling, prompt, output, vocabulary_size, look_back):
            llama_cpp.llama_sampler_chain_add(self._chain, link)

    def choose(self, logits: npt.NDArray[np.float32], row: int) -> int:
        """Sample from ``logits``, llama.cpp's own of a row. Raises ``GrammarError``."""
        if self._matcher is None:
            return self._chosen(logits, row)
        # Writes to llama.cpp's buffer, where the chain reads the logits.
        self._matcher.restrict(logits)
        token_id = self._chosen(logits, row)
        self._matcher.consume([token_id])
        return token_id

    def close(self) -> None:
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None

    def _chosen(self, logits: npt.NDArray[np.float32], row: int) -> int:
        if self._chain is None:
            return int(logits.argmax())
        return int(llama_cpp.llama_sampler_sample(self._chain, self._context, row))


def _links(
    sampling: SamplingParameters,
    prompt: list[int],
    output: list[int],
    vocabulary_size: int,
    look_back: int,
) -> list[Any]:
    """Samplers in the order of llama.cpp's default chain."""
    links = []
    if sampling.logit_bias:
        biases = [llama_cpp.llama_logit_bias(*item) for item in sampling.logit_bias.items()]
        array = (llama_cpp.llama_logit_bias * len(biases))(*biases)
        links.append(llama_cpp.llama_sampler_init_logit_bias(vocabulary_size, len(biases), array))
    if sampling.repeat_penalty != 1.0:
        link = llama_cpp.llama_sampler_init_penalties(
            vocabulary_size, REPEAT_PENALTY_TOKENS, sampling.repeat_penalty, 0.0, 0.0
        )
        _accept(link, [*prompt, *output][-REPEAT_PENALTY_TOKENS:])
        links.append(link)
    if sampling.frequency_penalty or sampling.presence_penalty:
        # OpenAI's penalties count the answer alone, and all of it.
        link = llama_cpp.llama_sampler_init_penalties(
            vocabulary_size, look_back, 1.0, sampling.frequency_penalty, sampling.presence_penalty
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
    seed = llama_cpp.LLAMA_DEFAULT_SEED
    if sampling.seed is not None:
        # A continued generation must not repeat its first random numbers.
        seed = (sampling.seed + len(output)) % SEEDS
    return [*links, llama_cpp.llama_sampler_init_dist(seed)]


def _accept(link: Any, token_ids: list[int]) -> None:
    for token_id in token_ids:
        llama_cpp.llama_sampler_accept(link, token_id)
