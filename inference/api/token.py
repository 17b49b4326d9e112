"""``POST /api/auth/token``: a JWT for a user's name and password."""

from typing import Any, ClassVar

from django.contrib.auth import authenticate
from django.http import HttpResponse
from redis.asyncio import Redis
from rest_framework.request import Request
from rest_framework_simplejwt.tokens import AccessToken

from inference.api.view import ApiView, body_of, json_response
from inference.database import in_database
from inference.errors import AuthenticationError, TooManyAttemptsError
from inference.orders.requests import TokenRequest
from inference.queue import keys
from inference.runs.runtime import runtime

ATTEMPTS_PER_MINUTE = 10


async def _count_attempt(client: Redis, who: str) -> None:
    """Raise ``TooManyAttemptsError`` after too many attempts for one user from one address."""
    name = keys.attempts(who)
    pipeline = client.pipeline()
    pipeline.set(name, 0, ex=60, nx=True)
    pipeline.incr(name)
    _, count = await pipeline.execute()
    if count > ATTEMPTS_PER_MINUTE:
        raise TooManyAttemptsError(
            f"{ATTEMPTS_PER_MINUTE} attempts a minute are allowed for one user. Wait a minute.",
            retry_after_ms=60_000,
        )


class Token(ApiView):
    """Short-lived tokens for browsers and people; programs use API keys."""

    authentication_classes: ClassVar[list[Any]] = []
    permission_classes: ClassVar[list[Any]] = []
    # Anybody may send one.
    max_body_bytes = 64 << 10

    async def post(self, request: Request) -> HttpResponse:
        service = runtime()
        body = body_of(request, TokenRequest, service.settings.max_body_bytes)
        address = str(request.META.get("REMOTE_ADDR", ""))
        await _count_attempt(service.redis, f"{body.username} {address}")
        # Hashing a password is slow on purpose; one at a time leaves threads to everybody else.
        async with service.login_slot:
            user = await in_database(authenticate, username=body.username, password=body.password)
        if user is None:
            raise AuthenticationError(
                "The user name or the password is wrong.", code="invalid_credentials"
            )
        token = AccessToken.for_user(user)
        return json_response(
            {
                "access_token": str(token),
                "token_type": "Bearer",
                "expires_in": int(token.lifetime.total_seconds()),
            }
        )
