"""API keys and teams, and runs of several models."""

from inference.models.keys import (
    KEY_PREFIX,
    ApiKey,
    Membership,
    Scope,
    Team,
    every_scope,
    issue_key,
    key_digest,
    new_secret,
    scopes_of,
    teams_owned_by,
    usual_scopes,
)
from inference.models.orchestration import OrchestrationRun, RunStep

__all__ = [
    "KEY_PREFIX",
    "ApiKey",
    "Membership",
    "OrchestrationRun",
    "RunStep",
    "Scope",
    "Team",
    "every_scope",
    "issue_key",
    "key_digest",
    "new_secret",
    "scopes_of",
    "teams_owned_by",
    "usual_scopes",
]
