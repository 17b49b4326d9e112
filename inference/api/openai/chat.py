"""``POST /v1/chat/completions``."""

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from inference.api.admission import (
    check_stream_options,
    keep_alive_of,
    max_tokens_of,
    priority_of,
    sampling_of,
)
from inference.api.delivery import event_response, whole_response
from inference.api.schemas import ChatRequest
from inference.api.structured import checked_grammar
from inference.api.tools.format import chat_format
from inference.api.tools.plan import chat_plan
from inference.api.view import ApiView, body_of, principal_in
from inference.errors import InvalidRequestError
from inference.services import GenerationOrder, InferenceService, inference_service


class ChatCompletions(ApiView):
    """Chat, streamed or not."""

    async def post(self, request: Request) -> HttpResponseBase:
        """Answer a conversation."""
        service = inference_service()
        body = body_of(request, ChatRequest, service.settings.max_body_bytes)
        check_stream_options(body)
        order = await chat_order(service, body)
        principal = principal_in(request)
        run = await service.start_generations(principal, order)
        format_ = chat_format(run.header)
        if body.stream:
            return await event_response(service, run, format_, principal, order.end_user)
        return await whole_response(service, run, format_, principal, order.end_user)


async def chat_order(service: InferenceService, body: ChatRequest) -> GenerationOrder:
    """What a chat request asks to generate; used by HTTP and WebSocket alike.

    Raises:
        InferenceError: the model, the messages or a value cannot be served.
    """
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise InvalidRequestError(
            "Give either 'max_tokens' or 'max_completion_tokens', not both.", param="max_tokens"
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequestError(
            "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs"
        )
    spec = await service.resolver.resolve(body.model, "text_generation", **body.choice)
    plan = await chat_plan(service.tokenizer, spec, body)
    prompt = await service.tokenizer.chat(spec, plan.messages, tools=plan.tools)
    size = await service.tokenizer.vocabulary_size(spec) if body.logit_bias else 0
    wanted = body.max_completion_tokens or body.max_tokens
    return GenerationOrder(
        kind="chat",
        spec=spec,
        prompts=[prompt],
        max_tokens=max_tokens_of([prompt], wanted, spec, "messages"),
        sampling=sampling_of(body, spec, size),
        n=body.n or 1,
        stop=body.stops,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        priority=priority_of(body, service.settings.default_priority),
        ignore_eos=bool(body.ignore_eos),
        end_user=body.user or "",
        include_usage=body.wants_usage_chunk,
        grammar=plan.grammar or await checked_grammar(service.tokenizer, spec, body),
        call_syntax=plan.call_syntax,
        keep_alive_seconds=keep_alive_of(body),
    )
