"""``POST /api/auth/token``: a JWT for a user's name and password."""

from typing import Any, ClassVar

from django.contrib.auth import authenticate
from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework_simplejwt.tokens import AccessToken

from inference.api.schemas import TokenRequest
from inference.api.view import ApiView, body_of, json_response
from inference.conf import inference_settings
from inference.database import in_database
from inference.errors import AuthenticationError


class Token(ApiView):
    """Short-lived tokens for browsers and people; programs use API keys."""

    authentication_classes: ClassVar[list[Any]] = []
    permission_classes: ClassVar[list[Any]] = []

    async def post(self, request: Request) -> HttpResponse:
        """Check the password and sign a token."""
        body = body_of(request, TokenRequest, inference_settings().max_body_bytes)
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
