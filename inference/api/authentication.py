"""DRF's door to ``inference.principal``."""

from typing import TYPE_CHECKING, cast

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from inference.errors import AuthenticationError
from inference.principal import Principal, credential_of, principal_of

if TYPE_CHECKING:
    # At run time this would be a circle: DRF's views import this module as a setting.
    from rest_framework.views import APIView

    from inference.api.view import ApiView


class KeyOrTokenAuthentication(BaseAuthentication):
    """Reads an API key or a JWT from the headers that clients use for it."""

    def authenticate(self, request: Request) -> tuple[Principal, None]:
        credential = credential_of(request.headers)
        if credential is None:
            raise AuthenticationError(
                "No API key was given. Send the header 'Authorization: Bearer <API key or JWT>'.",
                code="missing_api_key",
            )
        return principal_of(credential), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="brigade"'


class HasScope(BasePermission):
    """Requires the scope that an ``ApiView`` names for the method of the request."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        asked = cast("ApiView", view)
        reading_scope = asked.reading_scope if request.method in SAFE_METHODS else None
        cast("Principal", request.user).require(reading_scope or asked.required_scope)
        return True
