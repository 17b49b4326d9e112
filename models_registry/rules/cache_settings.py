"""Settings of the caches of answers, of the service or of a preset: pure."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

SCOPES: Final = ("end_user", "user", "all")
"""The users whose answers count: the end user of one account, the account, all."""


class CacheSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits and defaults of requests.

    Attributes:
        match: how far a question may differ from the cached one.
        scope: the widest that a request may ask for, and that of requests that ask for none.
        ttl: seconds that an answer is kept.
        min_similarity: the least cosine of questions that are compared in the semantic cache.
        shadow: whether semantic hits are only compared with the model's answer, which is given.
    """

    match: Annotated[str, Meta(pattern=r"^(exact|retyped|semantic)\Z")] = "exact"
    scope: Annotated[str, Meta(pattern=r"^(end_user|user|all)\Z")] = "end_user"
    ttl: Annotated[int, Meta(ge=1, le=31_536_000)] = 86_400
    min_similarity: Annotated[float, Meta(ge=0.5, le=1)] = 0.95
    shadow: bool = True

    def of_preset(self, values: dict[str, Any]) -> "CacheSettings":
        """Return these settings, overridden by a preset's. Raises ``ValueError``."""
        if not values:
            return self
        return msgspec.convert(msgspec.to_builtins(self) | values, CacheSettings)
