"""Token ids to vectors, as one run: what the route and programs have in common."""

import numpy as np
import numpy.typing as npt

from inference.errors import ContextBudgetExceededError, InternalError
from inference.messages import Failed, Vectors
from inference.principal import Principal
from inference.run import Run, failure_of
from inference.services import InferenceService
from models_registry.spec import ModelSpec


async def embed(
    service: InferenceService,
    principal: Principal,
    spec: ModelSpec,
    inputs: list[list[int]],
    *,
    param: str,
    end_user: str = "",
) -> tuple[npt.NDArray[np.float32], int]:
    """Vectors of texts that are token ids already.

    Args:
        service: of this event loop.
        principal: on whose behalf, for the record.
        spec: an embedding version.
        inputs: token ids, one list for each text.
        param: the field that they came from, for errors.
        end_user: for whom the principal asks, for the record.

    Returns:
        One row for each input, and the tokens of all inputs together.

    Raises:
        InferenceError: an input is too long, or the version cannot serve now.
    """
    limit = spec.context_length_tokens
    for index, tokens in enumerate(inputs):
        if len(tokens) > limit:
            raise ContextBudgetExceededError(
                f"Input {index} has {len(tokens)} tokens; {spec.model_slug} embeds at most "
                f"{limit}. Split the text.",
                param=param,
                details={"prompt_tokens": len(tokens), "context_length": limit, "index": index},
            )
    run = await service.start_embedding(principal, spec, inputs)
    try:
        vectors = await _vectors(run)
    finally:
        await service.end(run, principal, end_user)
    rows = np.frombuffer(vectors.data, dtype="<f4").reshape(-1, vectors.dimensions)
    return rows, vectors.prompt_tokens


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
