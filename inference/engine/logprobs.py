import numpy as np
import numpy.typing as npt

from inference.engine.backend import Backend
from inference.messages import TokenLogprob


def token_logprob(
    backend: Backend, logits: npt.NDArray[np.float32], token_id: int, top_count: int
) -> TokenLogprob:
    """The natural log-probability of a token and of its likeliest alternatives.

    Args:
        backend: spells the tokens.
        logits: shape (vocabulary_size,), before penalties, bias and temperature: the numbers
            describe the model and not the request.
        token_id: the token that was sampled.
        top_count: how many alternatives to list, the likeliest first; 0 lists none.
    """
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
