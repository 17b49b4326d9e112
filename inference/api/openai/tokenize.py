"""``POST /v1/tokenize`` and ``/v1/detokenize``."""

from django.http import HttpResponse
from rest_framework.request import Request

from inference.api.version_headers import version_headers
from inference.api.view import ApiView, body_of, json_response
from inference.errors import InvalidRequestError, ModelNotFoundError
from inference.orders.requests import DetokenizeRequest, TokenizeRequest
from inference.orders.tools.conversation import template_messages, tools_as_text
from inference.orders.tools.syntax import syntax_of
from inference.runs.service import InferenceService, inference_service
from models_registry.rules.spec import ModelSpec


class Tokenize(ApiView):
    """Token ids of a text or of a conversation in the model's format."""

    async def post(self, request: Request) -> HttpResponse:
        """Tokenise without generating."""
        service = inference_service()
        body = body_of(request, TokenizeRequest, service.settings.max_body_bytes)
        if (body.content is None) == (body.messages is None):
            raise InvalidRequestError("Give either 'content' or 'messages'.", param="content")
        spec = await _any_spec(service, body.model)
        if body.messages is not None:
            messages = template_messages(body.messages)
            if syntax_of(spec.chat_template) == "json":
                messages = tools_as_text(messages, [])
            tokens = await service.tokenizer.chat(spec, messages)
        else:
            tokens = await service.tokenizer.text(
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
    """The text of token ids."""

    async def post(self, request: Request) -> HttpResponse:
        """Spell tokens out."""
        service = inference_service()
        body = body_of(request, DetokenizeRequest, service.settings.max_body_bytes)
        spec = await _any_spec(service, body.model)
        text = await service.tokenizer.detokenize(spec, body.tokens, "tokens")
        return json_response(
            {"content": text}, headers=version_headers(spec.version_key, spec.deprecation)
        )


async def _any_spec(service: InferenceService, name: str) -> ModelSpec:
    """The version named, of whatever type."""
    try:
        return await service.resolver.resolve(name, "text_generation")
    except ModelNotFoundError as error:
        if error.code != "wrong_model_type":
            raise
        return await service.resolver.resolve(name, "embedding")
