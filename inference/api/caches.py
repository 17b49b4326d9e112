"""``POST /api/cache/forget``: delete cached answers."""

from datetime import timedelta
from typing import Annotated

import msgspec
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.utils import timezone
from msgspec import Meta
from rest_framework.request import Request

from caching.forgetting import Conditions, forget_everywhere
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
    age = body.older_than
    made_before = None if age is None else timezone.now() - timedelta(seconds=age)
    answers, entries = forget_everywhere(
        Conditions(body.version, body.preset, user, body.end_user, made_before, body.key)
    )
    return {"answers": answers, "semantic_entries": entries}
