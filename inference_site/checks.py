"""System checks: settings that would only fail later."""

import re
from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register

from models_registry.models import Role

# All names of the only engine.
BACKENDS: Final = ("llamacpp", "llama.cpp")
_SAMPLERS: Final = "(parentbased_)?(always_on|always_off|traceidratio)"


@register()
def check_inference_settings(**_kwargs: Any) -> list[CheckMessage]:
    inference = settings.INFERENCE
    database = settings.DATABASES["default"]["ENGINE"]
    errors = [
        (
            "E001",
            inference.lease_seconds < 2 * inference.heartbeat_seconds,
            "INFERENCE_LEASE must be at least twice INFERENCE_HEARTBEAT, or running hosts count as "
            "dead.",
        ),
        ("E002", len(settings.JWT_SECRET) < 32, "JWT_SECRET must have at least 32 characters."),
        (
            "E003",
            database != "django.db.backends.postgresql",
            "DATABASE_URL must name a Postgres database.",
        ),
        (
            "E004",
            inference.queue_timeout_seconds > inference.request_timeout_seconds,
            "INFERENCE_QUEUE_TIMEOUT must not exceed INFERENCE_REQUEST_TIMEOUT.",
        ),
        (
            "E005",
            settings.INFERENCE_BACKEND not in BACKENDS,
            f"INFERENCE_BACKEND={settings.INFERENCE_BACKEND!r} is not supported: models run in "
            f"llama.cpp. Set {BACKENDS[0]}, or unset it.",
        ),
        (
            "E007",
            re.match("https?://.|$", settings.TRACES_ENDPOINT) is None,
            "OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://.",
        ),
        (
            "E008",
            re.fullmatch(_SAMPLERS, settings.TRACES_SAMPLER.lower()) is None,
            f"OTEL_TRACES_SAMPLER must match {_SAMPLERS}.",
        ),
    ]
    found: list[CheckMessage] = [
        Error(text, id=f"inference.{code}") for code, is_wrong, text in errors if is_wrong
    ]
    for slug, roles in inference.model_roles.items():
        unknown = sorted(set(roles) - set(Role.values))
        if unknown:
            text = (
                f"INFERENCE_MODEL_ROLES gives {slug} the role {unknown[0]!r}; the roles are "
                f"{', '.join(Role.values)}."
            )
            found.append(Error(text, id="inference.E006"))
    if settings.DEBUG:
        found.append(checks.Warning("DEBUG is on: errors show source code.", id="inference.W001"))
    return found


@register()
def check_unread_variables(**_kwargs: Any) -> list[CheckMessage]:
    """Warn about variables that are set and have no effect."""
    unread: Mapping[str, str] = settings.INFERENCE_UNREAD
    found: list[CheckMessage] = []
    for name, similar in unread.items():
        advice = "Remove it; docs/configuration.md lists the variables that are read."
        if similar:
            advice = f"Did you mean {similar}?"
        found.append(
            checks.Warning(f"{name} is set, but is not read. {advice}", id="inference.W002")
        )
    return found
