"""``POST /v1/tokenize`` and ``/v1/detokenize``."""

from django.http import HttpResponse
from rest_framework.request import Request

from inference.api.version_headers import version_headers
from inference.api.view import ApiView, body_of, json_response
from inference.errors import InvalidRequestError, ModelNotFoundError
from inference.orders.requests import DetokenizeRequest, TokenizeRequest
from inference.orders.tools.conversation import template_messages, tools_as_text
from inference.orders.tools.syntax import syntax_of
from inference.runs.runtime import runtime
from models_registry.rules.spec import ModelSpec


class Tokenize(ApiView):
    async def post(self, request: Request) -> HttpResponse:
        body = body_of(request, TokenizeRequest, runtime().settings.max_body_bytes)
        if (body.content is None) == (body.messages is None):
            raise InvalidRequestError("Give either 'content' or 'messages'.", param="content")
        spec = await _any_spec(body.model)
        if body.messages is not None:
            messages = template_messages(body.messages)
            if syntax_of(spec.chat_template) == "json":
                messages = tools_as_text(messages, [])
            tokens = await runtime().tokenizer.chat(spec, messages)
        else:
            tokens = await runtime().tokenizer.text(
                spec,
                body.content or "",
                "content",
                add_special=bool(body.add_special),
                marks="all" if body.parse_special else "none",
            )
        return json_response(
            {
                "tokens": tokens,
                "count": len(tokens),
                "max_model_len": spec.sequence_limit_tokens,
            },
            headers=version_headers(spec.version_key, spec.deprecation),
        )


class Detokenize(ApiView):
    async def post(self, request: Request) -> HttpResponse:
        body = body_of(request, DetokenizeRequest, runtime().settings.max_body_bytes)
        spec = await _any_spec(body.model)
        text = await runtime().tokenizer.detokenize(spec, body.tokens, "tokens")
        return json_response(
            {"content": text}, headers=version_headers(spec.version_key, spec.deprecation)
        )


async def _any_spec(name: str) -> ModelSpec:
    """The named version, whatever its type."""
    try:
        return await runtime().resolver.resolve(name, "text_generation")
    except ModelNotFoundError as error:
        if error.code != "wrong_model_type":
            raise
        return await runtime().resolver.resolve(name, "embedding")
