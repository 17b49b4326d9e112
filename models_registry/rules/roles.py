"""Roles of models, the choice of a model by role, and the participants of each mode."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.db.models import TextChoices

from models_registry.rules.mode_settings import (
    DebateSettings,
    EnsembleSettings,
    ModeSettings,
    OrchestrationMode,
    PipelineSettings,
)

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

_STAGES: Final = {"draft": Participant.DRAFTER, "validate": Participant.VALIDATOR}
# The most different from a usual model first: they add most to its answers.
_BY_CONTRAST: Final = (Role.THINKER, Role.CODER, Role.PRIMARY, Role.LONGCTX, Role.FAST)


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


def choose_parts(
    settings: ModeSettings,
    first: str,
    candidates: Iterable[Candidate],
    roles_of: Mapping[str, Collection[str]],
) -> list[tuple[Participant, str]]:
    """The parts of a mode with the models that take them, in the order in which they speak.

    ``first`` speaks first; it also takes the parts for which there is no other model.
    ``roles_of`` names the roles whose models may take a part.
    """
    everyone = [model for model in candidates if not model.is_deprecated]
    others = [model for model in everyone if model.slug != first]

    def partners(part: Participant) -> list[str]:
        roles = [role for role in _BY_CONTRAST if role in roles_of.get(part, ())]
        return _one_of_each(roles, others)

    if isinstance(settings, DebateSettings):
        specialists = _one_of_each([Role.THINKER, Role.CODER], everyone)
        panel = partners(Participant.DEBATER)[: max(1, len(specialists))] or [first]
        return [(Participant.DEBATER, slug) for slug in (first, *panel)]
    if isinstance(settings, EnsembleSettings):
        panel = _one_of_each(["", ""], others) or [first, first]
        return [(Participant.GENERATOR, slug) for slug in (first, *panel)]
    parts = [Participant.GENERATOR, Participant.CRITIC]
    if isinstance(settings, PipelineSettings):
        parts = [_STAGES.get(stage, Participant.REFINER) for stage in settings.stages]
    line = [first]
    for part in parts[1:]:
        found = partners(part) or [first]
        line.append(next((slug for slug in found if slug not in line), found[0]))
    return list(zip(parts, line, strict=True))


def _one_of_each(roles: Iterable[str], models: Iterable[Candidate]) -> list[str]:
    """A different model for each role that has one; the role "" is any."""
    found: list[str] = []
    for role in roles:
        free = [model for model in models if model.slug not in found]
        chosen = choose_model(Route(role, fallback_role=role), free)
        if chosen is not None:
            found.append(chosen.slug)
    return found


def decider_of(settings: ModeSettings) -> tuple[Participant, str] | None:
    """The part that makes one answer of several, and the role or the model that shall take it."""
    if isinstance(settings, DebateSettings):
        return Participant.RECONCILER, settings.reconcile_model
    if isinstance(settings, EnsembleSettings):
        return Participant.SYNTHESISER, settings.synthesis_model
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
