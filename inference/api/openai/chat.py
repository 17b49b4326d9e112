"""``POST /v1/chat/completions``."""

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from inference.answers.tool_calls import RepeatedCalls, chat_format
from inference.api.delivery import event_response, whole_response
from inference.api.view import ApiView, body_of, note_ignored, principal_in
from inference.errors import InvalidRequestError
from inference.orders.defaults import (
    check_stream_options,
    keep_alive_of,
    max_tokens_of,
    priority_of,
    sampling_of,
)
from inference.orders.grammar import checked_grammar
from inference.orders.requests import ChatRequest
from inference.orders.template_variables import template_variables
from inference.orders.tools.plan import chat_plan
from inference.runs.service import GenerationOrder, InferenceService, inference_service


class ChatCompletions(ApiView):
    """Chat, streamed or not."""

    async def post(self, request: Request) -> HttpResponseBase:
        """Answer a conversation."""
        service = inference_service()
        body = body_of(request, ChatRequest, service.settings.max_body_bytes)
        check_stream_options(body)
        order = await chat_order(service, body)
        principal = principal_in(request)
        note_ignored(request, order.ignored)
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
    _check_together(body)
    spec = await service.resolver.resolve(body.model, "text_generation", **body.choice)
    plan = await chat_plan(service.tokenizer, spec, body)
    variables, unread = template_variables(body, spec.chat_template)
    prompt = await service.tokenizer.chat(
        spec,
        plan.messages,
        tools=plan.tools,
        variables=variables,
        add_generation_prompt=body.add_generation_prompt is not False,
        continue_final_message=body.continues_last_message,
    )
    size = await service.tokenizer.vocabulary_size(spec) if body.logit_bias else 0
    return GenerationOrder(
        kind="chat",
        spec=spec,
        prompts=[prompt],
        max_tokens=max_tokens_of([prompt], _wanted(body), spec, "messages"),
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
        ignored=(*unread, *plan.unenforced),
        ends_early=RepeatedCalls(plan.call_syntax) if plan.call_syntax else None,
    )


def _check_together(body: ChatRequest) -> None:
    """Refuse parameters that contradict each other."""
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequestError(
            "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs"
        )
    if body.continues_last_message and body.add_generation_prompt:
        raise InvalidRequestError(
            "'continue_final_message' goes on in the last turn, 'add_generation_prompt' opens "
            "another. Send one of them.",
            param="add_generation_prompt",
        )


def _wanted(body: ChatRequest) -> int | None:
    """The tokens that a request asks for; None is all that may be had."""
    if None not in (body.max_tokens, body.max_completion_tokens) and (
        body.max_tokens != body.max_completion_tokens
    ):
        raise InvalidRequestError(
            "Give either 'max_tokens' or 'max_completion_tokens', not both.", param="max_tokens"
        )
    for name in ("max_completion_tokens", "max_tokens"):
        wanted: int | None = getattr(body, name)
        if wanted == 0:
            raise InvalidRequestError(
                f"{name!r} must be 1 or more, or -1 for all the room there is.", param=name
            )
        if wanted is not None:
            return wanted if wanted > 0 else None
    return None
