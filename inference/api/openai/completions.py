"""``POST /v1/completions``."""

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from inference.answers.openai import CompletionFormat
from inference.api.delivery import event_response, whole_response
from inference.api.view import ApiView, body_of, principal_in
from inference.errors import InvalidRequestError
from inference.orders.defaults import (
    check_stream_options,
    keep_alive_of,
    max_tokens_of,
    priority_of,
    sampling_of,
)
from inference.orders.grammar import checked_grammar
from inference.orders.inputs import token_inputs
from inference.orders.requests import CompletionRequest
from inference.runs.service import GenerationOrder, InferenceService, inference_service
from models_registry.rules.spec import ModelSpec

# OpenAI's, of requests that name no number.
USUAL_MAX_TOKENS = 16


class Completions(ApiView):
    """Text completion of raw prompts, streamed or not."""

    async def post(self, request: Request) -> HttpResponseBase:
        """Continue a text."""
        service = inference_service()
        body = body_of(request, CompletionRequest, service.settings.max_body_bytes)
        check_stream_options(body)
        order = await completion_order(service, body)
        principal = principal_in(request)
        run = await service.start_generations(principal, order)
        format_ = CompletionFormat(run.header)
        if body.stream:
            return await event_response(service, run, format_, principal, order.end_user)
        return await whole_response(service, run, format_, principal, order.end_user)


async def completion_order(service: InferenceService, body: CompletionRequest) -> GenerationOrder:
    """What a request for a completion asks to generate.

    Raises:
        InferenceError: the model, the prompt or a value cannot be served.
    """
    spec = await service.resolver.resolve(body.model, "text_generation", **body.choice)
    n, most = body.n or 1, service.settings.max_queue_size
    if n > most:
        raise InvalidRequestError(
            f"n={n} makes {n} answers; at most {most} are allowed (INFERENCE_MAX_QUEUE_SIZE).",
            param="n",
        )
    prompts = await token_inputs(
        service.tokenizer,
        spec,
        body.prompt,
        "prompt",
        # Each answer is a generation of its own in the queue.
        most=most // n,
        marks="all" if body.parse_special else "other",
    )
    size = await service.tokenizer.vocabulary_size(spec) if body.logit_bias else 0
    return GenerationOrder(
        kind="completion",
        spec=spec,
        prompts=prompts,
        max_tokens=max_tokens_of(prompts, _wanted(body, spec), spec, "prompt"),
        sampling=sampling_of(body, spec, size),
        n=n,
        stop=body.stops,
        top_logprobs=body.logprobs,
        priority=priority_of(body, service.settings.default_priority),
        ignore_eos=bool(body.ignore_eos),
        end_user=body.user or "",
        include_usage=body.wants_usage_chunk,
        grammar=await checked_grammar(service.tokenizer, spec, body),
        keep_alive_seconds=keep_alive_of(body),
    )


def _wanted(body: CompletionRequest, spec: ModelSpec) -> int | None:
    """The tokens that a request asks for; None is all that may be had.

    A registration says how many there may be, in place of OpenAI's number.
    """
    if body.max_tokens is None:
        return None if spec.limits.max_output_tokens else USUAL_MAX_TOKENS
    return None if body.max_tokens < 0 else body.max_tokens
