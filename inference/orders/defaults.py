"""Check a request against the model version and apply the version's defaults."""

import logging
from functools import lru_cache
from typing import Any

import msgspec

from inference.errors import ContextBudgetExceededError, InternalError, InvalidRequestError
from inference.messages import SEEDS, SamplingParameters
from inference.orders.durations import seconds_of
from inference.orders.requests import EmbeddingsRequest, GenerationRequest
from models_registry.rules.sampling import SAMPLING_FIELDS, SamplingDefaults, read_sampling
from models_registry.rules.spec import ModelSpec

logger = logging.getLogger(__name__)

# Logits divided by less than this overflow 32-bit floats.
LEAST_TEMPERATURE = 1e-5

_SERVICE_PRIORITIES = {"chat": 3, "embedding": 2, "summary": 1}


def sampling_of(
    request: GenerationRequest, spec: ModelSpec, vocabulary_size: int
) -> SamplingParameters:
    """Sampling parameters of the request, else of the version, else OpenAI's defaults."""
    values: dict[str, Any] = {}
    for source in (_defaults(spec), request):
        for name in SAMPLING_FIELDS:
            value = getattr(source, name)
            if value is not None:
                values[name] = value
    if values.get("temperature", 1) < LEAST_TEMPERATURE:
        values["temperature"] = 0.0
    if request.seed is not None:
        values["seed"] = request.seed % SEEDS
    if request.logit_bias:
        bias = {}
        for text, addend in request.logit_bias.items():
            # int() raises its own error for thousands of digits.
            if not text.isdecimal() or len(text) > 10 or int(text) >= vocabulary_size:
                raise InvalidRequestError(
                    f"{text!r} is not a token id of this model (0 to {vocabulary_size - 1}).",
                    param="logit_bias",
                )
            bias[int(text)] = addend
        values["logit_bias"] = bias
    return msgspec.structs.replace(SamplingParameters(), **values)


def _defaults(spec: ModelSpec) -> SamplingDefaults:
    # A row may be older than the checks that the admin pages make.
    try:
        defaults = read_sampling(spec.default_sampling)
    except ValueError as error:
        logger.error("default sampling of %s: %s", spec.version_key, error)
        raise InternalError(
            f"The default sampling of {spec.version_key} is invalid: {error} "
            "An administrator can correct it on the version's page."
        ) from error
    unknown = spec.default_sampling.keys() - set(SAMPLING_FIELDS)
    if unknown:
        _warn_unknown(spec.version_key, ", ".join(sorted(unknown)))
    return defaults


@lru_cache(maxsize=1024)  # once, not with every request
def _warn_unknown(version_key: str, names: str) -> None:
    logger.warning("default sampling of %s: ignored unknown %s", version_key, names)


def max_tokens_of(prompts: list[list[int]], wanted: int | None, spec: ModelSpec, param: str) -> int:
    """Maximum number of tokens to generate after the longest of ``prompts`` (token ids).

    ``wanted`` is the request's number; None for the limit of the registration that the request
    names, else for all that fits. Raises ``ContextBudgetExceededError`` if a prompt and its answer
    exceed the context or the registration.
    """
    longest = max(len(prompt) for prompt in prompts)
    if not all(prompts):
        raise InvalidRequestError("The prompt is empty.", param=param)
    _check_limits(longest, wanted, spec, param)
    limit = spec.sequence_limit_tokens
    if longest + (1 if wanted is None else wanted) > limit:
        asked = f" and the request asks for {wanted} more" if wanted else ""
        raise ContextBudgetExceededError(
            f"This model's context is {limit} tokens, but the prompt has {longest}{asked}. "
            "Shorten the prompt or ask for fewer tokens.",
            param=param,
            details={
                "prompt_tokens": longest,
                "max_tokens": wanted,
                "context_length": limit,
                "model": spec.model_slug,
            },
        )
    if wanted is not None:
        return wanted
    return min(limit - longest, spec.limits.max_output_tokens or limit)


def _check_limits(longest: int, wanted: int | None, spec: ModelSpec, param: str) -> None:
    most_input, most_output = spec.limits.max_input_tokens, spec.limits.max_output_tokens
    if most_input is not None and longest > most_input:
        raise ContextBudgetExceededError(
            f"The prompt has {longest} tokens; the registration allows {most_input} "
            "(max_input_length). Shorten the prompt or register a longer one.",
            param=param,
            details={"prompt_tokens": longest, "max_input_length": most_input},
        )
    if most_output is not None and wanted is not None and wanted > most_output:
        raise InvalidRequestError(
            f"The request asks for {wanted} tokens; the registration allows {most_output} "
            "(max_output_length). Ask for fewer or register more.",
            param="max_tokens",
            details={"max_tokens": wanted, "max_output_length": most_output},
        )


def priority_of(request: GenerationRequest, default: int) -> int:
    """1 (low) to 3 (high); ``service_type`` counts if there is no ``priority``."""
    if request.priority is not None:
        return request.priority
    if request.service_type is not None:
        return _SERVICE_PRIORITIES[request.service_type]
    return default


def keep_alive_of(request: GenerationRequest | EmbeddingsRequest) -> float | None:
    """Seconds that the model stays in memory after this request; -1 for ever."""
    if request.keep_alive is None:
        return None
    return seconds_of(request.keep_alive, "keep_alive")


def check_stream_options(request: GenerationRequest) -> None:
    if request.stream_options is not None and not request.stream:
        raise InvalidRequestError(
            "'stream_options' is only allowed when 'stream' is true.", param="stream_options"
        )
