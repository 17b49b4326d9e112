"""The caller of a request, by API key or JWT, for HTTP and WebSocket."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import AccessToken

from inference.errors import AuthenticationError, PermissionDeniedError
from inference.models import KEY_PREFIX, ApiKey, Scope, key_digest, scopes_of

# ``last_used_at`` is for people; writing it at every request would cost a commit each.
LAST_USED_STEP = timedelta(minutes=1)


@dataclass(frozen=True)
class Principal:
    """An authenticated caller. A JWT has no key and therefore no team."""

    user_id: int
    username: str
    scopes: frozenset[str]
    key_id: int | None = None
    key_name: str = ""
    team_id: int | None = None
    team_name: str = ""

    @property
    def is_authenticated(self) -> bool:
        """DRF asks its users for this."""
        return True

    def require(self, scope: str) -> None:
        """Raise ``PermissionDeniedError`` unless the caller has ``scope``."""
        if scope not in self.scopes:
            raise PermissionDeniedError(
                f"This key or token lacks the scope {scope!r}. Use one that has it.",
                details={"scopes": sorted(self.scopes), "required": scope},
            )


def principal_of(credential: str) -> Principal:
    """The caller that a key or token belongs to. Reads the database.

    Raises:
        AuthenticationError: it is unknown, revoked, expired or malformed.
    """
    if credential.startswith(KEY_PREFIX):
        return _from_key(credential)
    return _from_token(credential)


def _from_key(secret: str) -> Principal:
    with connection.cursor() as cursor:
        cursor.execute(_key_query(), [key_digest(secret)])
        row = cursor.fetchone()
    if row is not None:
        active, scopes, expires_at, revoked_at, last_used_at, *caller = row
        user_id, username, key_id, key_name, team_id, team_name = caller
        now = timezone.now()
        if active and revoked_at is None and (expires_at is None or expires_at > now):
            if last_used_at is None or now - last_used_at > LAST_USED_STEP:
                ApiKey.objects.filter(pk=key_id).update(last_used_at=now)
            return Principal(
                user_id,
                username,
                frozenset(json.loads(scopes)),
                key_id,
                key_name,
                team_id,
                team_name or "",
            )
    raise AuthenticationError("The API key is unknown, expired or revoked. Use a valid key.")


@cache
def _key_query() -> str:
    """The query of a key by its digest; ``scopes`` comes as JSON text.

    Compiled once: compiling it for each request took twenty times as long as the query.
    """
    name = get_user_model().USERNAME_FIELD
    rows = ApiKey.objects.order_by().filter(digest="any")
    columns = rows.values_list(
        "user__is_active", "scopes", "expires_at", "revoked_at", "last_used_at",
        "user_id", f"user__{name}", "pk", "name", "team_id", "team__name",
    )  # fmt: skip
    text, _ = columns.query.sql_with_params()
    return str(text)


def _from_token(text: str) -> Principal:
    try:
        token = AccessToken(text)  # type: ignore[arg-type]
    except TokenError as error:
        raise AuthenticationError(
            "The credential is neither an API key nor a valid token "
            f"({error}). Use a valid key, or get a new token.",
            code="invalid_token",
        ) from None
    users = get_user_model().objects
    user = users.filter(username=str(token.get("sub", "")), is_active=True).first()
    if user is None:
        raise AuthenticationError(
            "The token's subject is not an active user of this service.", code="invalid_token"
        )
    allowed = scopes_of(user)
    claimed = token.get("scope")
    scopes = allowed if claimed is None else [s for s in str(claimed).split() if s in allowed]
    return Principal(user.pk, user.get_username(), frozenset(scopes))


def credential_of(headers: Mapping[str, str]) -> str | None:
    """The key or token in headers with lower-case names, or None.

    ``Authorization: Bearer`` goes first; Basic, which may be for a proxy, goes last.

    Raises:
        AuthenticationError: ``Authorization`` has another form, and no other header has a key.
    """
    scheme, _, value = headers.get("authorization", "").strip().partition(" ")
    bearer = value.strip() if scheme.lower() == "bearer" else ""
    password = _password(value) if scheme.lower() == "basic" else ""
    for found in (bearer, headers.get("x-api-key"), headers.get("api-key"), password):
        if found and found.strip():
            return found.strip()
    if scheme:
        raise AuthenticationError(
            "Send the header 'Authorization: Bearer <API key or JWT>', or Basic with the key as "
            "password."
        )
    return None


def _password(basic: str) -> str:
    """The password in Basic credentials; "" where they are malformed."""
    try:
        return base64.b64decode(basic, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


INFERENCE, MODELS_READ, MODELS_OPERATE, METRICS_READ = (
    Scope.INFERENCE.value,
    Scope.MODELS_READ.value,
    Scope.MODELS_OPERATE.value,
    Scope.METRICS_READ.value,
)
