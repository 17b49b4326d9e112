"""From a chat request to an order."""

from inference.errors import InvalidRequestError
from inference.orders.cache_policy import cache_policy
from inference.orders.cast import Cast
from inference.orders.defaults import (
    keep_alive_of,
    max_tokens_of,
    priority_of,
    sampling_of,
)
from inference.orders.grammar import checked_grammar
from inference.orders.order import Order, OrderResources
from inference.orders.requests import ChatRequest
from inference.orders.template_variables import template_variables
from inference.orders.tools.plan import chat_plan
from models_registry.rules.spec import ModelSpec


async def chat_order(
    resources: OrderResources, body: ChatRequest, spec: ModelSpec | None = None
) -> Order:
    """The order of a chat request.

    Args:
        resources: of this process.
        body: the request.
        spec: the version to order from, in place of the one that the request names.

    Raises:
        InferenceError: the model, the messages or a value cannot be served.
    """
    _check_together(body)
    tokenizer = resources.tokenizer
    if spec is None:
        cast = await resources.resolver.cast(body.model, **body.choice)
        if cast is not None:
            return _order_of_several(body, cast)
        spec = await resources.resolver.resolve(body.model, "text_generation", **body.choice)
    plan = await chat_plan(tokenizer, spec, body)
    variables, unread = template_variables(body, spec.chat_template)
    prompt = await tokenizer.chat(
        spec,
        plan.messages,
        tools=plan.tools,
        variables=variables,
        add_generation_prompt=body.add_generation_prompt is not False,
        continue_final_message=body.continues_last_message,
    )
    size = await tokenizer.vocabulary_size(spec) if body.logit_bias else 0
    sampling = sampling_of(body, spec, size)
    return Order(
        kind="chat",
        spec=spec,
        prompts=[prompt],
        request=body,
        max_tokens=max_tokens_of([prompt], _wanted(body), spec, "messages"),
        sampling=sampling,
        cache=cache_policy(body.cache, spec, sampling, resources.settings),
        n=body.n or 1,
        stop=body.stops,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        priority=priority_of(body, resources.settings.default_priority),
        ignore_eos=bool(body.ignore_eos),
        end_user=body.user or "",
        include_usage=body.wants_usage_chunk,
        grammar=plan.grammar or await checked_grammar(tokenizer, spec, body),
        call_syntax=plan.call_syntax,
        keep_alive_seconds=keep_alive_of(body),
        ignored=(*unread, *plan.unenforced, *(["orchestration"] if body.orchestration else [])),
    )


def _order_of_several(body: ChatRequest, cast: Cast) -> Order:
    """The order of a request that several models answer; their own are made as they speak."""
    if (body.n or 1) > 1:
        raise InvalidRequestError(
            f"The mode {cast.mode} gives one answer. Send 'n' 1, or name a single model.", param="n"
        )
    if body.continues_last_message:
        raise InvalidRequestError(
            f"The mode {cast.mode} cannot continue a message. Name a single model.",
            param="continue_final_message",
        )
    return Order(
        kind="chat",
        spec=cast.answering.spec,
        prompts=[[]],
        request=body,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        end_user=body.user or "",
        include_usage=body.wants_usage_chunk,
        cast=cast,
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
    """The number of tokens that a request asks for; None for as many as fit."""
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
                f"{name!r} must be 1 or more, or -1 for as many as fit.", param=name
            )
        if wanted is not None:
            return wanted if wanted > 0 else None
    return None
