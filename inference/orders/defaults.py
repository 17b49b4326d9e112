"""From a typed request and a version's spec to what will be generated: checks and defaults."""

import logging
from functools import lru_cache
from typing import Any

import msgspec

from inference.errors import (
    ContextBudgetExceededError,
    InternalError,
    InvalidRequestError,
)
from inference.messages import SEEDS, SamplingParameters
from inference.orders.durations import seconds_of
from inference.orders.requests import EmbeddingsRequest, Sampled
from models_registry.rules.sampling import SAMPLING_FIELDS, SamplingDefaults, read_sampling
from models_registry.rules.spec import ModelSpec

logger = logging.getLogger(__name__)

# Logits divided by less than this are beyond what 32 bits hold.
LEAST_TEMPERATURE = 1e-5

_SERVICE_PRIORITIES = {"chat": 3, "embedding": 2, "summary": 1}


def sampling_of(request: Sampled, spec: ModelSpec, vocabulary_size: int) -> SamplingParameters:
    """The request's sampling over the version's defaults over OpenAI's.

    Raises:
        InvalidRequestError: ``logit_bias`` names a token that the model does not have.
    """
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
        values["logit_bias"] = _logit_bias(request.logit_bias, vocabulary_size)
    return msgspec.structs.replace(SamplingParameters(), **values)


def _defaults(spec: ModelSpec) -> SamplingDefaults:
    """The version's own sampling values; the row may be older than what checks it."""
    try:
        defaults = read_sampling(spec.default_sampling)
    except ValueError as error:
        logger.error("default sampling of %s: %s", spec.version_key, error)
        raise InternalError(
            f"The default sampling of {spec.version_key} is wrong: {error} "
            "An administrator can correct it in the version's page."
        ) from error
    unknown = spec.default_sampling.keys() - set(SAMPLING_FIELDS)
    if unknown:
        _note_unknown(spec.version_key, ", ".join(sorted(unknown)))
    return defaults


@lru_cache(maxsize=1024)  # Once, and not with every request.
def _note_unknown(version_key: str, names: str) -> None:
    logger.warning("default sampling of %s: passed over %s", version_key, names)


def max_tokens_of(prompts: list[list[int]], wanted: int | None, spec: ModelSpec, param: str) -> int:
    """How many tokens may be generated after the longest prompt.

    Args:
        prompts: token ids.
        wanted: what the request asks for; None takes what the registration it names allows, or
            else all the room there is.
        spec: whose context it is, and the registration's limits.
        param: the field that the prompt came from.

    Raises:
        ContextBudgetExceededError: prompt and answer do not fit, with both numbers, or the prompt
            is longer than was registered.
        InvalidRequestError: a prompt is empty, or more is asked for than was registered.
    """
    longest = max(len(prompt) for prompt in prompts)
    if not all(prompts):
        raise InvalidRequestError("The prompt is empty.", param=param)
    _check_limits(longest, wanted, spec, param)
    limit = spec.sequence_limit_tokens
    if longest + (1 if wanted is None else wanted) > limit:
        asked = f" and {wanted} were asked for the answer" if wanted else ""
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
    """See that a request keeps to the registration that it names, if it names one."""
    most_input, most_output = spec.limits.max_input_tokens, spec.limits.max_output_tokens
    if most_input is not None and longest > most_input:
        raise ContextBudgetExceededError(
            f"The prompt has {longest} tokens; the registration allows {most_input} "
            "(max_input_length). Shorten the prompt or register a larger one.",
            param=param,
            details={"prompt_tokens": longest, "max_input_length": most_input},
        )
    if most_output is not None and wanted is not None and wanted > most_output:
        raise InvalidRequestError(
            f"{wanted} tokens are asked for; the registration allows {most_output} "
            "(max_output_length). Ask for fewer or register a larger one.",
            param="max_tokens",
            details={"max_tokens": wanted, "max_output_length": most_output},
        )


def priority_of(request: Sampled, default: int) -> int:
    """1 low to 3 high; ``service_type`` counts where no ``priority`` is given."""
    if request.priority is not None:
        return request.priority
    if request.service_type is not None:
        return _SERVICE_PRIORITIES[request.service_type]
    return default


def keep_alive_of(request: Sampled | EmbeddingsRequest) -> float | None:
    """Seconds for which the model stays in memory after this request; -1 for ever.

    Raises:
        InvalidRequestError: it is no span of time.
    """
    if request.keep_alive is None:
        return None
    return seconds_of(request.keep_alive, "keep_alive")


def check_stream_options(request: Sampled) -> None:
    """Raise ``InvalidRequestError`` for ``stream_options`` without ``stream``."""
    if request.stream_options is not None and not request.stream:
        raise InvalidRequestError(
            "'stream_options' is only allowed when 'stream' is true.", param="stream_options"
        )


def _logit_bias(entries: dict[str, float], vocabulary_size: int) -> dict[int, float]:
    bias = {}
    for text, addend in entries.items():
        # int() refuses thousands of digits with an error of its own.
        if not text.isdecimal() or len(text) > 10 or int(text) >= vocabulary_size:
            raise InvalidRequestError(
                f"{text!r} is not a token id of this model (0 to {vocabulary_size - 1}).",
                param="logit_bias",
            )
        bias[int(text)] = addend
    return bias
