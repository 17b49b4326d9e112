"""Token ids to vectors: what the routes and programs have in common."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.database import in_database
from inference.errors import ContextBudgetExceededError, InternalError, InvalidRequestError
from inference.messages import Failed, Vectors
from inference.orders.order import Order
from inference.orders.resolution import REGISTRATION
from inference.principal import Principal
from inference.runs.generate import generate
from inference.runs.run import Run, failure_of
from inference.runs.runtime import runtime
from models_registry.fleet.registrations import find_registration


@dataclass(frozen=True)
class Embedded:
    """One row for each text; the tokens of all texts together; the launches that computed them.

    ``cached``: all rows came from the cache.
    """

    rows: npt.NDArray[np.float32]
    prompt_tokens: int
    hosts: tuple[str, ...]
    cached: bool


async def embed(order: Order, principal: Principal, param: str) -> Embedded:
    """Vectors of the texts of an order of the kind ``embedding``.

    One run; where a registration says how many texts go to the model at a time, one for each batch.

    Args:
        order: the texts as token ids, for an embedding version.
        principal: the caller.
        param: the field that the texts came from, for errors.

    Raises:
        InferenceError: a text is too long, or the version cannot serve now.
    """
    limit = order.spec.context_length_tokens
    for index, tokens in enumerate(order.prompts):
        if len(tokens) > limit:
            raise ContextBudgetExceededError(
                f"Input {index} has {len(tokens)} tokens; {order.spec.model_slug} embeds at most "
                f"{limit}. Split the text.",
                param=param,
                details={"prompt_tokens": len(tokens), "context_length": limit, "index": index},
            )
    size = order.spec.limits.batch_texts or len(order.prompts)
    done: list[Vectors] = []
    tiers: list[str] = []
    for first in range(0, len(order.prompts), size):
        batch = replace(order, prompts=order.prompts[first : first + size])
        async with generate(batch, principal) as run:
            done.append(await _vectors(run, len(batch.prompts)))
            tiers.append(run.cache.tier)
    return Embedded(
        rows=np.concatenate(
            [np.frombuffer(one.data, dtype="<f4").reshape(-1, one.dimensions) for one in done]
        ),
        prompt_tokens=sum(one.prompt_tokens for one in done),
        hosts=tuple(dict.fromkeys(one.host for one in done if one.host)),
        cached=all(tiers),
    )


async def embed_registered(
    principal: Principal, texts: str | Sequence[str], model_id: str
) -> dict[str, Any]:
    """Vectors of texts by a registered embedding model; brings it into memory if need be.

    Args:
        principal: the caller.
        texts: one or many, none of them empty.
        model_id: as registered.

    Returns:
        ``embeddings`` (a list of floats for each text), ``model_id``, ``version``, ``cached`` (all
        came from the cache), ``processing_time`` in seconds, and ``worker_id``, the launch of the
        host that computed them; several are separated by commas.

    Raises:
        InferenceError: nothing is registered so, a text is empty or too long, or the version cannot
            serve now.
    """
    shared, began = runtime(), time.monotonic()
    wanted = [texts] if isinstance(texts, str) else list(texts)
    if not wanted or not all(wanted):
        raise InvalidRequestError("There is no text, or an empty one.", param="texts")
    spec = await shared.resolver.resolve(REGISTRATION + model_id, "embedding")
    if await in_database(lambda: find_registration(model_id=model_id)) is None:
        raise InternalError(f"{model_id!r} was released a moment ago.", code="released")
    inputs = [await shared.tokenizer.text(spec, text, "texts") for text in wanted]
    order = Order(kind="embedding", spec=spec, prompts=inputs, end_user=model_id)
    found = await embed(order, principal, "texts")
    return {
        "embeddings": found.rows.tolist(),
        "model_id": model_id,
        "version": spec.version_key,
        "cached": found.cached,
        "processing_time": round(time.monotonic() - began, 4),
        "worker_id": ", ".join(found.hosts),
    }


async def _vectors(run: Run, texts: int) -> Vectors:
    vectors: Vectors | None = None
    async for _, frame in run.frames():
        if isinstance(frame, Failed):
            raise failure_of(frame)
        if isinstance(frame, Vectors):
            vectors = frame
    if vectors is None:
        raise InternalError("The embedding was stopped before it was done.")
    if len(vectors.data) != 4 * vectors.dimensions * texts:
        run.error_code = InternalError.default_code
        raise InternalError("The model's file was replaced meanwhile. Try again.")
    return vectors
