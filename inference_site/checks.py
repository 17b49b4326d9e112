"""System checks: what would only fail later is said at the start."""

from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register


@register()
def check_inference_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Relations between settings that single values cannot show."""
    inference = settings.INFERENCE
    found: list[CheckMessage] = []
    if inference.lease_seconds < 2 * inference.heartbeat_seconds:
        found.append(
            Error(
                "INFERENCE_LEASE must be at least twice INFERENCE_HEARTBEAT, or living hosts "
                "count as dead.",
                id="inference.E001",
            )
        )
    if len(settings.JWT_SECRET) < 32:
        found.append(Error("JWT_SECRET must have at least 32 characters.", id="inference.E002"))
    if settings.DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql":
        found.append(Error("DATABASE_URL must name a Postgres database.", id="inference.E003"))
    if inference.queue_timeout_seconds > inference.request_timeout_seconds:
        found.append(
            Error(
                "INFERENCE_QUEUE_TIMEOUT must not exceed INFERENCE_REQUEST_TIMEOUT.",
                id="inference.E004",
            )
        )
    if settings.DEBUG:
        found.append(checks.Warning("DEBUG is on: errors show source code.", id="inference.W001"))
    return found
