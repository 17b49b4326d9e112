"""Authentication by key and by token."""

import base64
import hashlib
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken

from inference.errors import AuthenticationError, PermissionDeniedError
from inference.models import (
    KEY_PREFIX,
    ApiKey,
    Scope,
    Team,
    every_scope,
    issue_key,
    key_digest,
    new_secret,
    usual_scopes,
)
from inference.principal import Principal, credential_of, principal_of
from models_registry.access import OPERATE_CODENAME

pytestmark = pytest.mark.django_db


@pytest.fixture
def user() -> Any:
    return get_user_model().objects.create_user("ada")


@pytest.fixture
def admin() -> Any:
    return get_user_model().objects.create_user("grace", is_staff=True)


def token(secret: str, **claims: Any) -> str:
    """A token as another issuer would sign it; None leaves a claim out."""
    values = {"sub": "ada", "exp": timezone.now() + timedelta(minutes=5)} | claims
    present = {name: value for name, value in values.items() if value is not None}
    return jwt.encode(present, secret, algorithm="HS256")


def test_key_is_stored_as_a_digest_alone(user: Any):
    key, secret = issue_key(user, "laptop")
    key.refresh_from_db()
    stored = [str(value) for value in ApiKey.objects.values_list().get()]
    assert not any(secret in value or secret[len(KEY_PREFIX) :] in value for value in stored)
    assert key.digest == hashlib.sha256(secret.encode()).hexdigest()
    assert secret.startswith(key.hint)
    assert len(key.hint) < len(secret) / 2


def test_keys_are_long_and_never_alike():
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(len(secret) >= len(KEY_PREFIX) + 43 for secret in secrets)


def test_key_lets_its_user_in_with_its_scopes(user: Any):
    key, secret = issue_key(user, "laptop", [Scope.MODELS_READ.value])
    principal = principal_of(secret)
    assert (principal.user_id, principal.username, principal.key_id) == (user.pk, "ada", key.pk)
    assert principal.scopes == {"models.read"}
    assert principal.is_authenticated


def test_key_tells_its_name_and_team_in_the_same_query(user: Any, django_assert_num_queries: Any):
    key, secret = issue_key(user, "laptop")
    assert (principal_of(secret).key_name, principal_of(secret).team_id) == ("laptop", None)
    key.team = Team.objects.create(slug="search", name="Search")
    key.save(update_fields=["team"])
    with django_assert_num_queries(1):
        principal = principal_of(secret)
    assert (principal.team_id, principal.team_name) == (key.team.pk, "Search")
    key.team.delete()
    assert (principal_of(secret).team_id, principal_of(secret).team_name) == (None, "")


def test_key_has_the_usual_scopes_unless_told_otherwise(user: Any):
    _, secret = issue_key(user, "laptop")
    assert principal_of(secret).scopes == set(usual_scopes())
    _, secret = issue_key(user, "none", [])
    assert principal_of(secret).scopes == set()


def test_principal_without_a_scope_is_told_which(user: Any):
    principal = Principal(user.pk, "ada", frozenset({"models.read"}))
    principal.require("models.read")
    with pytest.raises(PermissionDeniedError, match="inference") as error:
        principal.require("inference")
    assert error.value.details == {"scopes": ["models.read"], "required": "inference"}


@pytest.mark.parametrize("fault", ["revoked", "expired", "inactive user", "deleted", "altered"])
def test_key_that_is_not_valid_lets_nobody_in(user: Any, fault: str):
    key, secret = issue_key(user, "laptop")
    assert principal_of(secret)
    match fault:
        case "revoked":
            key.revoke()
        case "expired":
            ApiKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        case "inactive user":
            user.is_active = False
            user.save()
        case "deleted":
            key.delete()
        case "altered":
            secret += "x"
    with pytest.raises(AuthenticationError) as error:
        principal_of(secret)
    assert error.value.code == "invalid_api_key"
    assert secret not in error.value.message


def test_key_works_until_it_expires(user: Any):
    _, secret = issue_key(user, "laptop", expires_at=timezone.now() + timedelta(minutes=1))
    assert principal_of(secret)


def test_key_revoked_twice_keeps_its_first_time(user: Any):
    key, _ = issue_key(user, "laptop")
    key.revoke()
    first = key.revoked_at
    key.revoke()
    key.refresh_from_db()
    assert key.revoked_at == first


def test_key_use_is_noted_at_most_once_a_minute(user: Any, django_assert_num_queries: Any):
    key, secret = issue_key(user, "laptop")
    with django_assert_num_queries(2):
        principal_of(secret)
    with django_assert_num_queries(1):
        principal_of(secret)
    key.refresh_from_db()
    assert key.last_used_at is not None
    ApiKey.objects.update(last_used_at=timezone.now() - timedelta(minutes=2))
    with django_assert_num_queries(2):
        principal_of(secret)


def test_digest_alone_is_no_key(user: Any):
    _, secret = issue_key(user, "laptop")
    with pytest.raises(AuthenticationError):
        principal_of(KEY_PREFIX + key_digest(secret))


def test_own_token_lets_its_user_in(user: Any):
    principal = principal_of(str(AccessToken.for_user(user)))
    assert (principal.user_id, principal.key_id) == (user.pk, None)
    assert principal.scopes == set(usual_scopes())


def test_token_of_staff_operates_only_with_the_permission(admin: Any):
    text = str(AccessToken.for_user(admin))
    assert principal_of(text).scopes == set(usual_scopes())
    admin.user_permissions.add(Permission.objects.get(codename=OPERATE_CODENAME))
    assert principal_of(text).scopes == set(every_scope())


def test_token_of_a_superuser_has_every_scope():
    root = get_user_model().objects.create_superuser("root")
    assert principal_of(str(AccessToken.for_user(root))).scopes == set(every_scope())


def test_key_keeps_the_scopes_of_its_row(user: Any):
    _, secret = issue_key(user, "operator", every_scope())
    assert principal_of(secret).scopes == set(every_scope())


def test_token_of_another_issuer_needs_subject_and_expiry_alone(user: Any, settings: Any):
    assert principal_of(token(settings.JWT_SECRET)).username == "ada"


@pytest.mark.parametrize(
    ("claim", "scopes"),
    [
        ("inference", {"inference"}),
        ("inference models.read", {"inference", "models.read"}),
        ("models.operate inference", {"inference"}),
        ("everything", set()),
        ("", set()),
    ],
)
def test_token_scope_narrows_what_its_user_may(
    user: Any, settings: Any, claim: str, scopes: set[str]
):
    assert principal_of(token(settings.JWT_SECRET, scope=claim)).scopes == scopes


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"exp": None},
        {"exp": "tomorrow"},
        {"sub": None},
        {"sub": ""},
        {"sub": "nobody"},
        {"sub": 7},
        {"sub": ["ada"]},
        {"nbf": 99_999_999_999},
    ],
    ids=str,
)
def test_token_with_wrong_claims_lets_nobody_in(user: Any, settings: Any, claims: dict[str, Any]):
    # Other issuers may write a subject that our own library would refuse to sign.
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    expiry = int((timezone.now() + timedelta(minutes=5)).timestamp())
    values = {"sub": "ada", "exp": expiry} | claims
    body = json.dumps({name: value for name, value in values.items() if value is not None})
    payload = header + b"." + base64.urlsafe_b64encode(body.encode()).rstrip(b"=")
    algorithm = jwt.get_algorithm_by_name("HS256")
    key = algorithm.prepare_key(settings.JWT_SECRET)
    signature = base64.urlsafe_b64encode(algorithm.sign(payload, key)).rstrip(b"=")
    with pytest.raises(AuthenticationError) as error:
        principal_of((payload + b"." + signature).decode())
    assert error.value.code == "invalid_token"


def test_token_of_an_inactive_user_lets_nobody_in(user: Any, settings: Any):
    signed = token(settings.JWT_SECRET)
    user.is_active = False
    user.save()
    with pytest.raises(AuthenticationError):
        principal_of(signed)


def test_token_with_another_signature_lets_nobody_in(user: Any):
    with pytest.raises(AuthenticationError):
        principal_of(token("another secret of at least 32 characters"))


@pytest.mark.parametrize("algorithm", ["none", "HS512"])
def test_token_of_another_algorithm_lets_nobody_in(user: Any, settings: Any, algorithm: str):
    secret = "" if algorithm == "none" else settings.JWT_SECRET
    claims = {"sub": "ada", "exp": timezone.now() + timedelta(minutes=5)}
    with pytest.raises(AuthenticationError):
        principal_of(jwt.encode(claims, secret, algorithm=algorithm))


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é.ü.ß", "." * 1000, "\0", "null"])
def test_nonsense_lets_nobody_in(text: str):
    with pytest.raises(AuthenticationError):
        principal_of(text)


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("headers", "credential"),
    [
        ({}, None),
        ({"authorization": ""}, None),
        ({"authorization": "Bearer x"}, "x"),
        ({"authorization": "bearer  x "}, "x"),
        ({"authorization": "BEARER a b"}, "a b"),
        ({"x-api-key": " x "}, "x"),
        ({"api-key": "x"}, "x"),
        ({"authorization": basic("anybody:x:y")}, "x:y"),
        ({"authorization": basic(":x")}, "x"),
        ({"authorization": "Bearer x", "x-api-key": "y"}, "x"),
        ({"authorization": basic("of:proxy"), "x-api-key": "x"}, "x"),
        ({"authorization": "Bearer", "x-api-key": "", "api-key": "x"}, "x"),
    ],
)
def test_credential_is_read_from_headers(headers: dict[str, str], credential: str | None):
    assert credential_of(headers) == credential


@pytest.mark.parametrize(
    "header",
    ["x", "Bearer", "Bearer ", "Basic", "Basic eA==", "Basic x", basic("key:"), "Digest x"],
)
def test_credential_of_another_form_is_refused(header: str):
    with pytest.raises(AuthenticationError, match="Bearer"):
        credential_of({"authorization": header})
