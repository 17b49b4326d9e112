"""``POST /api/cache/forget``: delete cached answers."""

from datetime import timedelta
from typing import Annotated

import msgspec
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.utils import timezone
from msgspec import Meta
from redis import Redis
from rest_framework.request import Request

from caching.answers import CachedAnswer, forget
from caching.semantic import store
from inference.api.view import ApiView, body_of, json_response
from inference.conf import inference_settings
from inference.database import in_database
from inference.errors import InvalidRequestError
from inference.orders.requests import EndUser, Name, StrictStruct
from inference.principal import MODELS_OPERATE


class ForgetRequest(StrictStruct, kw_only=True):
    """Answers that fulfil all given conditions are forgotten.

    ``user`` is a name, ``older_than`` an age in seconds, ``key`` the key or its beginning, as
    headers have it. ``everything`` alone forgets all.
    """

    version: Name | None = None
    preset: Name | None = None
    user: Name | None = None
    end_user: EndUser | None = None
    older_than: Annotated[int, Meta(ge=0, le=31_536_000)] | None = None
    key: Annotated[str, Meta(pattern=r"^[0-9a-f]{8,64}\Z")] | None = None
    everything: bool = False


class ForgetAnswers(ApiView):
    required_scope = MODELS_OPERATE

    async def post(self, request: Request) -> HttpResponse:
        body = body_of(request, ForgetRequest, inference_settings().max_body_bytes)
        conditions = [value for value in msgspec.structs.astuple(body) if value is not None]
        if body.everything == (len(conditions) > 1):
            raise InvalidRequestError(
                "Give a condition, such as 'version', or 'everything': true alone."
            )
        return json_response({"object": "cache.forgotten", **await in_database(_forget, body)})


def _forget(body: ForgetRequest) -> dict[str, int]:
    user: int | None = None
    if body.user is not None:
        known = get_user_model().objects.filter(username=body.user).first()
        if known is None:
            raise InvalidRequestError(f"There is no user {body.user!r}.", param="user")
        user = known.pk
    now = timezone.now()
    oldest = None if body.older_than is None else now - timedelta(seconds=body.older_than)

    def matches(key: str, about: CachedAnswer) -> bool:
        wanted = {
            "version": body.version,
            "preset": body.preset,
            "user": user,
            "end_user": body.end_user,
        }
        is_old = oldest is None or about.made_at < oldest.timestamp()
        return (
            all(value in (None, getattr(about, name)) for name, value in wanted.items())
            and is_old
            and key.startswith(body.key or "")
        )

    with Redis.from_url(django_settings.REDIS_URL) as client:
        answers = forget(client, matches)
    entries = store.forget(
        version=body.version,
        preset=body.preset,
        user=user,
        end_user=body.end_user,
        older_than=oldest,
        key=body.key,
    )
    return {"answers": answers, "semantic_entries": entries}
