"""Token ids to vectors: what the routes and programs have in common."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.database import in_database
from inference.errors import ContextBudgetExceededError, InternalError, InvalidRequestError
from inference.messages import Failed, Vectors
from inference.principal import Principal
from inference.runs.resolution import REGISTRATION
from inference.runs.run import Run, failure_of
from inference.runs.service import InferenceService
from models_registry.fleet.registrations import find_registration
from models_registry.rules.spec import ModelSpec


@dataclass(frozen=True)
class Embedded:
    """One row for each text; the tokens of all texts together; the launches that computed them."""

    rows: npt.NDArray[np.float32]
    prompt_tokens: int
    hosts: tuple[str, ...]


async def embed(
    service: InferenceService,
    principal: Principal,
    spec: ModelSpec,
    inputs: list[list[int]],
    *,
    param: str,
    end_user: str = "",
    keep_alive_seconds: float | None = None,
) -> Embedded:
    """Vectors of texts that are token ids already.

    One run; where a registration says how many texts go to the model at a time, one for each batch.

    Args:
        service: of this event loop.
        principal: on whose behalf, for the record.
        spec: an embedding version.
        inputs: token ids, one list for each text.
        param: the field that they came from, for errors.
        end_user: for whom the principal asks, for the record.
        keep_alive_seconds: how long the version stays in memory afterwards, below 0 for ever; None
            for what is usual.

    Raises:
        InferenceError: an input is too long, or the version cannot serve now.
    """
    _check_lengths(inputs, spec, param)
    size = spec.limits.batch_texts or len(inputs)
    done: list[Vectors] = []
    for first in range(0, len(inputs), size):
        batch = inputs[first : first + size]
        run = await service.start_embedding(principal, spec, batch, keep_alive_seconds)
        try:
            done.append(await _vectors(run))
        finally:
            await service.end(run, principal, end_user)
    return Embedded(
        rows=np.concatenate(
            [np.frombuffer(one.data, dtype="<f4").reshape(-1, one.dimensions) for one in done]
        ),
        prompt_tokens=sum(one.prompt_tokens for one in done),
        hosts=tuple(dict.fromkeys(one.host for one in done)),
    )


async def embed_registered(
    service: InferenceService, principal: Principal, texts: str | Sequence[str], model_id: str
) -> dict[str, Any]:
    """Vectors of texts by a registered embedding model; brings it into memory if need be.

    Args:
        service: of this event loop.
        principal: on whose behalf, for the record.
        texts: one or many, none of them empty.
        model_id: as registered.

    Returns:
        ``embeddings`` (a list of floats for each text), ``model_id``, ``version``, ``cached``,
        ``processing_time`` in seconds, and ``worker_id``, the launch of the host that computed
        them; several are separated by commas.

    Raises:
        InferenceError: nothing is registered so, a text is empty or too long, or the version cannot
            serve now.
    """
    began = time.monotonic()
    wanted = [texts] if isinstance(texts, str) else list(texts)
    if not wanted or not all(wanted):
        raise InvalidRequestError("There is no text, or an empty one.", param="texts")
    spec = await service.resolver.resolve(REGISTRATION + model_id, "embedding")
    if await in_database(lambda: find_registration(model_id=model_id)) is None:
        raise InternalError(f"{model_id!r} was released a moment ago.", code="released")
    inputs = [await service.tokenizer.text(spec, text, "texts") for text in wanted]
    found = await embed(service, principal, spec, inputs, param="texts", end_user=model_id)
    return {
        "embeddings": found.rows.tolist(),
        "model_id": model_id,
        "version": spec.version_key,
        "cached": False,
        "processing_time": round(time.monotonic() - began, 4),
        "worker_id": ", ".join(found.hosts),
    }


def _check_lengths(inputs: list[list[int]], spec: ModelSpec, param: str) -> None:
    limit = spec.context_length_tokens
    for index, tokens in enumerate(inputs):
        if len(tokens) > limit:
            raise ContextBudgetExceededError(
                f"Input {index} has {len(tokens)} tokens; {spec.model_slug} embeds at most "
                f"{limit}. Split the text.",
                param=param,
                details={"prompt_tokens": len(tokens), "context_length": limit, "index": index},
            )


async def _vectors(run: Run) -> Vectors:
    vectors: Vectors | None = None
    async for entry in run.frames():
        if entry is None:
            continue
        if isinstance(entry[1], Failed):
            raise failure_of(entry[1])
        if isinstance(entry[1], Vectors):
            vectors = entry[1]
    if vectors is None:
        raise InternalError("The embedding was stopped before it was done.")
    return vectors
