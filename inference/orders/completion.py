"""From a request for the continuation of raw prompts to an order."""

from inference.errors import InvalidRequestError
from inference.orders.cache_policy import cache_policy
from inference.orders.defaults import (
    keep_alive_of,
    max_tokens_of,
    priority_of,
    sampling_of,
)
from inference.orders.grammar import checked_grammar
from inference.orders.inputs import token_inputs
from inference.orders.order import Order, OrderResources
from inference.orders.requests import CompletionRequest
from models_registry.rules.spec import ModelSpec

# OpenAI's, of requests that name no number.
USUAL_MAX_TOKENS = 16


async def completion_order(
    resources: OrderResources, body: CompletionRequest, spec: ModelSpec | None = None
) -> Order:
    """The order of a request for a completion; arguments and errors as ``chat_order``."""
    tokenizer, settings = resources.tokenizer, resources.settings
    if spec is None:
        spec = await resources.resolver.resolve(body.model, "text_generation", **body.choice)
    n, most = body.n or 1, settings.max_queue_size
    if n > most:
        raise InvalidRequestError(
            f"n={n} makes {n} answers; at most {most} are allowed (INFERENCE_MAX_QUEUE_SIZE).",
            param="n",
        )
    prompts = await token_inputs(
        tokenizer,
        spec,
        body.prompt,
        "prompt",
        # Each answer is a generation of its own in the queue.
        most=most // n,
        marks="all" if body.parse_special else "other",
    )
    size = await tokenizer.vocabulary_size(spec) if body.logit_bias else 0
    sampling = sampling_of(body, spec, size)
    return Order(
        kind="completion",
        spec=spec,
        prompts=prompts,
        request=body,
        max_tokens=max_tokens_of(prompts, _wanted(body, spec), spec, "prompt"),
        sampling=sampling,
        cache=cache_policy(body.cache, spec, sampling, settings),
        n=n,
        stop=body.stops,
        top_logprobs=body.logprobs,
        priority=priority_of(body, settings.default_priority),
        ignore_eos=bool(body.ignore_eos),
        end_user=body.user or "",
        include_usage=body.wants_usage_chunk,
        grammar=await checked_grammar(tokenizer, spec, body),
        keep_alive_seconds=keep_alive_of(body),
    )


def _wanted(body: CompletionRequest, spec: ModelSpec) -> int | None:
    """The number of tokens that a request asks for; None for as many as fit.

    A registration says how many there may be, in place of OpenAI's number.
    """
    if body.max_tokens is None:
        return None if spec.limits.max_output_tokens else USUAL_MAX_TOKENS
    return None if body.max_tokens < 0 else body.max_tokens
