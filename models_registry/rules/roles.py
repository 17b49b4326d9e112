"""Which model a role or a type of task means, and who must speak in a mode: pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models_registry.rules.mode_settings import ModeSettings, PipelineSettings

DEFAULT_TASK_TYPE: Final = "default"


@dataclass(frozen=True)
class Route:
    """The role of a type of task, and the one that stands in; "" stands for any model."""

    role: str
    fallback_role: str = ""


@dataclass(frozen=True)
class Candidate:
    """A model that could answer: its file is there. Its best role comes first."""

    slug: str
    roles: tuple[str, ...]
    is_loaded: bool
    is_deprecated: bool = False


@dataclass(frozen=True)
class _Cast:
    """Who must speak in a mode, who may besides, and how many members there are at least."""

    needed: frozenset[str]
    optional: frozenset[str] = frozenset()
    minimum: int = 2


_CASTS: Final[Mapping[str, _Cast]] = {
    "single": _Cast(frozenset({"generator"}), minimum=1),
    "critique": _Cast(frozenset({"generator", "critic"}), frozenset({"reviser"})),
    "debate": _Cast(frozenset({"debater"}), frozenset({"reconciler"})),
    "ensemble": _Cast(frozenset({"generator"}), frozenset({"synthesiser"})),
    "pipeline": _Cast(frozenset(), frozenset({"drafter", "refiner", "validator"})),
}
_MANY: Final = {"debater", "refiner"}


def choose_route(task_type: str, routes: Mapping[str, Route]) -> Route:
    """The route of a type of task: its own, or the default one.

    Args:
        task_type: as the request has it; "" for none.
        routes: by type of task.
    """
    usual = routes.get(DEFAULT_TASK_TYPE, Route("primary"))
    return routes.get(task_type, usual)


def choose_model(route: Route, candidates: Iterable[Candidate]) -> Candidate | None:
    """The model for a route.

    Models with the role go first, then those with the fallback role. Among these a deprecated one
    goes last, a loaded one before one that would have to be loaded, and one for which the role is
    its first before one for which it is a side role.

    Returns:
        None where no model has either role.
    """
    models = list(candidates)
    for role in (route.role, route.fallback_role):
        fitting = [model for model in models if not role or role in model.roles]
        if fitting:
            return min(fitting, key=lambda model: _preference(model, role))
    return None


def _preference(model: Candidate, role: str) -> tuple[bool, bool, int, str]:
    rank = model.roles.index(role) if role else 0
    return (model.is_deprecated, not model.is_loaded, rank, model.slug)


def faults_of(mode: str, settings: ModeSettings, roles: Sequence[str]) -> list[str]:
    """Why members with these roles cannot run in a mode; empty where they can.

    Args:
        mode: an orchestration mode.
        settings: of that mode.
        roles: of the members, in order.
    """
    cast = _CASTS[mode]
    faults = []
    if len(roles) < cast.minimum:
        faults.append(f"{mode} needs at least {cast.minimum} members, not {len(roles)}")
    faults += [f"{mode} needs a {role}" for role in sorted(cast.needed - set(roles))]
    strange = sorted(set(roles) - cast.needed - cast.optional)
    faults += [f"{mode} has no {role}" for role in strange]
    many = _MANY | ({"generator"} if mode == "ensemble" else set())
    faults += [
        f"{mode} has one {role}, not {roles.count(role)}"
        for role in sorted(set(roles) - many)
        if roles.count(role) > 1
    ]
    if isinstance(settings, PipelineSettings) and len(settings.stages) != len(roles):
        faults.append(f"{len(settings.stages)} stages are named for {len(roles)} members")
    return faults
