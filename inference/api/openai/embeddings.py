"""``POST /v1/embeddings``."""

import base64

from django.http import HttpResponse
from rest_framework.request import Request

from inference.api.version_headers import version_headers
from inference.api.view import ApiView, body_of, json_response, principal_in
from inference.errors import InvalidRequestError
from inference.orders.defaults import keep_alive_of
from inference.orders.inputs import token_inputs
from inference.orders.order import Order
from inference.orders.requests import MAX_TEXTS, EmbeddingsRequest
from inference.runs.embedding import embed
from inference.runs.runtime import runtime
from models_registry.rules.spec import ModelSpec


class Embeddings(ApiView):
    async def post(self, request: Request) -> HttpResponse:
        shared = runtime()
        body = body_of(request, EmbeddingsRequest, shared.settings.max_body_bytes)
        spec = await shared.resolver.resolve(body.model, "embedding")
        keep_alive_seconds = keep_alive_of(body)
        _check_dimensions(body.dimensions, spec)
        order = Order(
            kind="embedding",
            spec=spec,
            prompts=await token_inputs(shared.tokenizer, spec, body.input, "input", most=MAX_TEXTS),
            end_user=body.user or "",
            keep_alive_seconds=keep_alive_seconds,
        )
        found = await embed(order, principal_in(request), "input")
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
                    for index, row in enumerate(found.rows)
                ],
                "model": spec.model_slug,
                "usage": {
                    "prompt_tokens": found.prompt_tokens,
                    "total_tokens": found.prompt_tokens,
                },
            },
            headers={
                **version_headers(spec.version_key, spec.deprecation),
                "x-brigade-cache": "exact" if found.cached else "miss",
            },
        )


def _check_dimensions(wanted: int | None, spec: ModelSpec) -> None:
    if wanted is not None and wanted != spec.embedding_dimensions:
        raise InvalidRequestError(
            f"{spec.model_slug} gives {spec.embedding_dimensions} dimensions and cannot be "
            "shortened. Leave 'dimensions' out.",
            param="dimensions",
        )
