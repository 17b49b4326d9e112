"""Roles of models, the choice of a model by role, and the participants of each mode."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.db.models import TextChoices

from models_registry.rules.mode_settings import ModeSettings, OrchestrationMode, PipelineSettings

DEFAULT_TASK_TYPE: Final = "default"


class Role(TextChoices):
    """Purpose of a model."""

    PRIMARY = "primary"
    FAST = "fast"
    CODER = "coder"
    THINKER = "thinker"
    LONGCTX = "longctx"


class Participant(TextChoices):
    """Part of a model in a run."""

    GENERATOR = "generator"
    CRITIC = "critic"
    REVISER = "reviser"
    DEBATER = "debater"
    RECONCILER = "reconciler"
    SYNTHESISER = "synthesiser"
    DRAFTER = "drafter"
    REFINER = "refiner"
    VALIDATOR = "validator"


@dataclass(frozen=True)
class Route:
    """The role for a type of task, and its fallback role; "" stands for any model."""

    role: str
    fallback_role: str = ""


@dataclass(frozen=True)
class Candidate:
    """A model whose file is here; its best role comes first."""

    slug: str
    roles: tuple[str, ...]
    is_loaded: bool
    is_deprecated: bool = False


@dataclass(frozen=True)
class _MemberRule:
    """The participants of a mode; those in ``repeatable`` may occur more than once."""

    required: frozenset[Participant] = frozenset()
    optional: frozenset[Participant] = frozenset()
    repeatable: frozenset[Participant] = frozenset()
    minimum: int = 2


_MEMBER_RULES: Final[Mapping[str, _MemberRule]] = {
    OrchestrationMode.SINGLE: _MemberRule(frozenset({Participant.GENERATOR}), minimum=1),
    OrchestrationMode.CRITIQUE: _MemberRule(
        frozenset({Participant.GENERATOR, Participant.CRITIC}), frozenset({Participant.REVISER})
    ),
    OrchestrationMode.DEBATE: _MemberRule(
        required=frozenset({Participant.DEBATER}),
        optional=frozenset({Participant.RECONCILER}),
        repeatable=frozenset({Participant.DEBATER}),
    ),
    OrchestrationMode.ENSEMBLE: _MemberRule(
        required=frozenset({Participant.GENERATOR}),
        optional=frozenset({Participant.SYNTHESISER}),
        repeatable=frozenset({Participant.GENERATOR}),
    ),
    OrchestrationMode.PIPELINE: _MemberRule(
        optional=frozenset({Participant.DRAFTER, Participant.REFINER, Participant.VALIDATOR}),
        repeatable=frozenset({Participant.REFINER}),
    ),
}


def choose_route(task_type: str, routes: Mapping[str, Route]) -> Route:
    """The route of a type of task, else the default route."""
    return routes.get(task_type) or routes.get(DEFAULT_TASK_TYPE, Route(Role.PRIMARY))


def choose_model(route: Route, candidates: Iterable[Candidate]) -> Candidate | None:
    """The model for a route, or None if no model has the role or the fallback role.

    Models with the role precede models with the fallback role. Among them, models that are not
    deprecated precede, then loaded ones, then those that list the role first.
    """
    models = list(candidates)
    for role in (route.role, route.fallback_role):
        fitting = [model for model in models if not role or role in model.roles]
        if fitting:
            return min(
                fitting,
                key=lambda model: (
                    model.is_deprecated,
                    not model.is_loaded,
                    model.roles.index(role) if role else 0,
                    model.slug,
                ),
            )
    return None


def member_faults(mode: str, settings: ModeSettings, roles: Sequence[str]) -> list[str]:
    """Reasons why members with these roles cannot run in a mode; empty if they can."""
    rule = _MEMBER_RULES[mode]
    faults = []
    if len(roles) < rule.minimum:
        faults.append(f"{mode} needs at least {rule.minimum} members, not {len(roles)}")
    faults += [f"{mode} needs a {role}" for role in sorted(rule.required - set(roles))]
    unknown = sorted(set(roles) - rule.required - rule.optional)
    faults += [f"{mode} has no {role}" for role in unknown]
    faults += [
        f"{mode} has one {role}, not {roles.count(role)}"
        for role in sorted(set(roles) - rule.repeatable - set(unknown))
        if roles.count(role) > 1
    ]
    if isinstance(settings, PipelineSettings) and len(settings.stages) != len(roles):
        faults.append(f"{len(settings.stages)} stages are named for {len(roles)} members")
    return faults
