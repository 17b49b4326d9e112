"""Sample the next tokens of a sequence, with their log-probabilities."""

import numpy as np
import numpy.typing as npt

from inference.engine.backend import Backend
from inference.engine.sequence import Sequence
from inference.messages import TokenLogprob


def sample(
    backend: Backend, sequence: Sequence, span_index: int, draft: list[int]
) -> list[tuple[int, TokenLogprob | None]]:
    """Sample after each drafted token, until the sampled token differs from the drafted one."""
    top_logprobs = sequence.generation.top_logprobs
    sampled: list[tuple[int, TokenLogprob | None]] = []
    for output in range(len(draft) + 1):
        logits = None
        if top_logprobs is not None:
            # Log-probabilities describe the model and not the request: they are taken before
            # penalties, bias and temperature, and sampling may change the logits in place.
            logits = backend.logits(span_index, output).copy()
        token_id = backend.sample(sequence.sampler, span_index, output)
        logprob = None
        if logits is not None:
            logprob = token_logprob(backend, logits, token_id, top_logprobs or 0)
        sampled.append((token_id, logprob))
        if draft[output : output + 1] != [token_id] or ends(backend, sequence, token_id):
            break
    return sampled


def ends(backend: Backend, sequence: Sequence, token_id: int) -> bool:
    return backend.ends_generation(token_id) and not sequence.generation.ignore_eos


def token_logprob(
    backend: Backend, logits: npt.NDArray[np.float32], token_id: int, top_count: int
) -> TokenLogprob:
    """The natural log-probability of a token and of the likeliest ones, from raw ``logits``."""
    peak = float(logits.max())
    log_total = peak + float(np.log(np.exp(logits - peak, dtype=np.float64).sum()))
    top: list[tuple[str, bytes, float]] = []
    if top_count:
        best = np.argpartition(logits, -top_count)[-top_count:]
        for candidate in best[np.argsort(-logits[best], kind="stable")]:
            name = backend.token_name(int(candidate))
            top.append((_text(name), name, float(logits[candidate]) - log_total))
    name = backend.token_name(token_id)
    return TokenLogprob(_text(name), name, float(logits[token_id]) - log_total, top)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
