"""``POST /v1/embeddings``."""

import base64

import numpy as np
from django.http import HttpResponse
from rest_framework.request import Request

from inference.api.openai.inputs import token_inputs
from inference.api.schemas import EmbeddingsRequest
from inference.api.view import ApiView, body_of, json_response, principal_in
from inference.errors import ContextBudgetExceededError, InternalError, InvalidRequestError
from inference.messages import Failed, Vectors
from inference.run import Run, failure_of
from inference.services import inference_service
from models_registry.spec import ModelSpec


class Embeddings(ApiView):
    """Vectors of texts."""

    async def post(self, request: Request) -> HttpResponse:
        """Embed one or many inputs."""
        service = inference_service()
        body = body_of(request, EmbeddingsRequest, service.settings.max_body_bytes)
        spec = await service.resolve(body.model, "embedding")
        _check_dimensions(body.dimensions, spec)
        inputs = await token_inputs(
            service.tokenizer, spec, body.input, "input", parse_control=False
        )
        _check_lengths(inputs, spec)
        principal = principal_in(request)
        run = await service.start_embedding(principal, spec, inputs)
        try:
            vectors = await _vectors(run)
        finally:
            await service.end(run, principal, body.user or "")
        rows = np.frombuffer(vectors.data, dtype="<f4").reshape(-1, vectors.dimensions)
        return json_response(
            {
                "object": "list",
                "data": [
                    {
                        "object": "embedding",
                        "index": index,
                        "embedding": base64.b64encode(row.tobytes()).decode()
                        if body.encoding_format == "base64"
                        else row.tolist(),
                    }
                    for index, row in enumerate(rows)
                ],
                "model": spec.model_slug,
                "usage": {
                    "prompt_tokens": vectors.prompt_tokens,
                    "total_tokens": vectors.prompt_tokens,
                },
            }
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


def _check_dimensions(wanted: int | None, spec: ModelSpec) -> None:
    if wanted is not None and wanted != spec.embedding_dimensions:
        raise InvalidRequestError(
            f"{spec.model_slug} gives {spec.embedding_dimensions} dimensions and cannot be "
            "shortened. Leave 'dimensions' out.",
            param="dimensions",
        )


def _check_lengths(inputs: list[list[int]], spec: ModelSpec) -> None:
    limit = spec.context_length_tokens
    for index, tokens in enumerate(inputs):
        if len(tokens) > limit:
            raise ContextBudgetExceededError(
                f"Input {index} has {len(tokens)} tokens; {spec.model_slug} embeds at most "
                f"{limit}. Split the text.",
                param="input",
                details={"prompt_tokens": len(tokens), "context_length": limit, "index": index},
            )
