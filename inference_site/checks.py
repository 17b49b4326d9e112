"""System checks: what would only fail later is said at the start."""

from collections.abc import Mapping
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register

from models_registry.models import Role

# The names of the one engine there is.
BACKENDS: Final = ("llamacpp", "llama.cpp")
_ORCHESTRATION: Final = tuple(
    f"INFERENCE_{mode}_" for mode in ("ORCHESTRATION", "CRITIQUE", "DEBATE", "ENSEMBLE", "PIPELINE")
)


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


@register()
def check_models_settings(**_kwargs: Any) -> list[CheckMessage]:
    """Settings about models that name what there is not."""
    found: list[CheckMessage] = []
    if settings.INFERENCE_BACKEND not in BACKENDS:
        found.append(
            Error(
                f"INFERENCE_BACKEND={settings.INFERENCE_BACKEND!r} is not served: models run in "
                f"llama.cpp. Write {BACKENDS[0]}, or leave it out.",
                id="inference.E005",
            )
        )
    for slug, roles in settings.INFERENCE.model_roles.items():
        strange = sorted(set(roles) - set(Role.values))
        if strange:
            found.append(
                Error(
                    f"INFERENCE_MODEL_ROLES gives {slug} the role {strange[0]!r}; there are "
                    f"{', '.join(Role.values)}.",
                    id="inference.E006",
                )
            )
    return found


@register()
def check_unread_variables(**_kwargs: Any) -> list[CheckMessage]:
    """Variables that are set and change nothing."""
    unread: Mapping[str, str] = settings.INFERENCE_UNREAD
    return [
        checks.Warning(
            f"{name} is set, but is not read. {_advice(name, similar)}", id="inference.W002"
        )
        for name, similar in unread.items()
    ]


def _advice(name: str, similar: str) -> str:
    if name.startswith(_ORCHESTRATION):
        return "Orchestration is not served yet; presets carry their own mode and settings."
    if similar:
        return f"Did you mean {similar}?"
    return "Remove it; docs/configuration.md lists the variables that are read."
