"""Delete answers from all caches."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from redis import Redis

from caching.answers import CachedAnswer, forget
from caching.semantic import store


@dataclass(frozen=True)
class Conditions:
    """Answers that fulfil all given conditions; without any, all answers.

    ``made_before`` is a time, ``key`` the beginning of a key.
    """

    version: str | None = None
    preset: str | None = None
    user: int | None = None
    end_user: str | None = None
    made_before: datetime | None = None
    key: str | None = None

    def matches(self, key: str, about: CachedAnswer) -> bool:
        """Tell whether an answer in Redis fulfils them."""
        names = ("version", "preset", "user", "end_user")
        return (
            all(getattr(self, name) in (None, getattr(about, name)) for name in names)
            and (self.made_before is None or about.made_at < self.made_before.timestamp())
            and key.startswith(self.key or "")
        )


def forget_everywhere(conditions: Conditions) -> tuple[int, int]:
    """Delete answers from Redis and from the semantic cache; return both numbers."""
    with Redis.from_url(settings.REDIS_URL) as client:
        answers = forget(client, conditions.matches)
    entries = store.forget(
        version=conditions.version,
        preset=conditions.preset,
        user=conditions.user,
        end_user=conditions.end_user,
        older_than=conditions.made_before,
        key=conditions.key,
    )
    return answers, entries
