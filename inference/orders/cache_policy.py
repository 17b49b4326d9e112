"""The use of caches for an order: the wishes of its request within the limits of the operator."""

from dataclasses import dataclass

from inference.conf import InferenceSettings
from inference.errors import InvalidRequestError
from inference.messages import SamplingParameters
from inference.orders.requests import CacheOptions
from models_registry.rules.cache_settings import SCOPES
from models_registry.rules.spec import ModelSpec


@dataclass(frozen=True)
class CachePolicy:
    """The use of caches for one order.

    Attributes:
        bypass: why no cache is used; "" where one is.
        read: whether an answer may come from a cache; else it is only replaced there.
        match: ``exact``, ``retyped`` or ``semantic``: how far a question may differ.
        scope: whose answers count: ``end_user``, ``user`` or ``all``.
        ttl_seconds: the greatest age of an answer, and how long a new one is kept.
        semantic_ttl_seconds: how long a new one is kept in the semantic cache.
        min_similarity: cosine of questions that are compared at all.
        shadow: whether semantic hits are compared, and not given.
        pace: tokens a second at which a cached answer is given, 0 for all at once.
    """

    bypass: str = "off"
    read: bool = True
    match: str = "exact"
    scope: str = "end_user"
    ttl_seconds: int = 0
    semantic_ttl_seconds: int = 0
    min_similarity: float = 1.0
    shadow: bool = True
    pace: float = 0.0


def cache_policy(
    wish: CacheOptions | None,
    spec: ModelSpec,
    sampling: SamplingParameters,
    settings: InferenceSettings,
) -> CachePolicy:
    """The policy of an order: pure.

    Answers are cached if they are deterministic or the request asks for it. A preset's settings
    take the place of the service's. A request may narrow the scope.

    Raises:
        InvalidRequestError: scope, similarity or time is beyond that which is allowed.
    """
    options = wish or CacheOptions()
    allowed = settings.cache.of_preset(spec.cache)
    scope = options.scope or allowed.scope
    if SCOPES.index(scope) > SCOPES.index(allowed.scope):
        raise InvalidRequestError(
            f"The scope {scope!r} is wider than {allowed.scope!r}, which is allowed here. A "
            "request may only narrow it.",
            param="cache.scope",
        )
    if options.match == "semantic" and not settings.cache_embedder:
        raise InvalidRequestError(
            "This service has no semantic cache: INFERENCE_CACHE_EMBEDDER names no model.",
            param="cache.match",
        )
    similarity = options.min_similarity
    if similarity is None:
        similarity = allowed.min_similarity
    if similarity < allowed.min_similarity:
        raise InvalidRequestError(
            f"A similarity of {similarity:g} is below {allowed.min_similarity:g}, the least that "
            "is allowed here.",
            param="cache.min_similarity",
        )
    semantic_ttl = spec.cache.get("ttl", settings.semantic_ttl)
    longest = max(allowed.ttl, semantic_ttl)
    if options.ttl is not None and options.ttl > longest:
        raise InvalidRequestError(
            f"A ttl of {options.ttl} s is above {longest} s, the most that is allowed here.",
            param="cache.ttl",
        )
    return CachePolicy(
        bypass=_bypass(options, spec, sampling, settings),
        read=options.mode != "refresh",
        match=options.match or allowed.match,
        scope=scope,
        ttl_seconds=min(options.ttl or allowed.ttl, allowed.ttl),
        semantic_ttl_seconds=min(options.ttl or semantic_ttl, semantic_ttl),
        min_similarity=similarity,
        shadow=allowed.shadow,
        pace=options.pace if isinstance(options.pace, (int, float)) else 0.0,
    )


def _bypass(
    options: CacheOptions,
    spec: ModelSpec,
    sampling: SamplingParameters,
    settings: InferenceSettings,
) -> str:
    """Why no cache is used for an order, or ""."""
    is_deterministic = sampling.temperature == 0 or sampling.seed is not None
    reasons = {
        "off": settings.cache_bytes == 0,
        "no-store": options.mode == "no-store",
        "user-specific": bool(options.user_specific),
        "time-sensitive": bool(options.time_sensitive),
        "sampled": not is_deterministic and options.mode is None,
        "unknown file": not spec.weights,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
