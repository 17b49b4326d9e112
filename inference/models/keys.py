"""API keys, how programs identify themselves, and teams, for which they work."""

import hashlib
import secrets
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.db import models
from django.utils import timezone

from models_registry.access import OPERATE

KEY_PREFIX = "sk-brigade-"


class Scope(models.TextChoices):
    INFERENCE = "inference", "run models and read one's own streams"
    MODELS_READ = "models.read", "list models, downloads and registrations"
    MODELS_OPERATE = "models.operate", "load, unload, download and register models"
    METRICS_READ = "metrics.read", "read usage reports"


def every_scope() -> list[str]:
    return list(Scope.values)


def usual_scopes() -> list[str]:
    """Scopes of a new key."""
    return [Scope.INFERENCE.value, Scope.MODELS_READ.value, Scope.METRICS_READ.value]


def scopes_of(user: Any) -> list[str]:
    """Scopes that a user may have in a token and give to keys. Reads the database."""
    return every_scope() if user.has_perm(OPERATE) else usual_scopes()


def key_digest(secret: str) -> str:
    """The stored form of a key. A key has 256 random bits, so a fast hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> str:
    return KEY_PREFIX + secrets.token_urlsafe(32)


class Team(models.Model):
    """People whose keys are accounted for together."""

    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=100)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A user in a team; owners see the usage of the whole team."""

    class Role(models.TextChoices):
        OWNER = "owner"
        MEMBER = "member"

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "user"], name="one_membership_per_team")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.team}"


class ApiKey(models.Model):
    """A secret that acts for a user within scopes; the secret itself is never stored."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys"
    )
    team = models.ForeignKey(
        Team,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="api_keys",
        help_text="Requests of the key count for this team.",
    )
    name = models.CharField(max_length=100, help_text="What the key is used for.")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField(max_length=20, editable=False, help_text="How the key begins.")
    scopes = models.JSONField(default=usual_scopes)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "API key"
        verbose_name_plural = "API keys"

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    def revoke(self) -> None:
        """Refuse the key from the next request on; repeating it changes nothing."""
        if self.revoked_at is None:
            self.revoked_at = timezone.now()
            self.save(update_fields=["revoked_at"])


def issue_key(
    user: AbstractBaseUser,
    name: str,
    scopes: list[str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """Make a key.

    Returns:
        The row and the secret, which is stored nowhere.
    """
    secret = new_secret()
    key = ApiKey.objects.create(
        user_id=user.pk,
        name=name,
        digest=key_digest(secret),
        hint=secret[: len(KEY_PREFIX) + 4],
        scopes=usual_scopes() if scopes is None else scopes,
        expires_at=expires_at,
    )
    return key, secret


def teams_owned_by(user_id: int) -> list[int]:
    """Ids of the teams whose usage the user may see. Reads the database."""
    owned = Membership.objects.filter(user_id=user_id, role=Membership.Role.OWNER)
    return list(owned.values_list("team_id", flat=True))
