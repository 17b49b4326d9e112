"""Find versions by role, type of task or preset; ``lookup`` finds them by name."""

from pathlib import Path

from models_registry.catalogue.lookup import find_offer
from models_registry.errors import RegistryError
from models_registry.models import (
    Fallback,
    Model,
    ModelVersion,
    Preset,
    PresetMember,
    Replica,
    TaskRoute,
)
from models_registry.rules.mode_settings import read_settings
from models_registry.rules.roles import Candidate, Route, choose_model, choose_route, member_faults
from models_registry.rules.spec import MemberSpec, Offer, PresetSpec


def find_offer_for_task(task_type: str, models_dir: Path) -> Offer | None:
    """The version for a type of task, or None if no model with a file has its roles."""
    routes = {row.task_type: Route(row.role, row.fallback_role) for row in TaskRoute.objects.all()}
    return _find_offer(choose_route(task_type, routes), models_dir)


def find_offer_for_role(role: str, models_dir: Path) -> Offer | None:
    """The version for a role, or None if no model with a file has it."""
    return _find_offer(Route(role, fallback_role=role), models_dir)


def _find_offer(route: Route, models_dir: Path) -> Offer | None:
    chosen = choose_model(route, _candidates())
    return None if chosen is None else find_offer(chosen.slug, models_dir)


def _candidates() -> list[Candidate]:
    """Text generation models whose default version has its file here."""
    versions = ModelVersion.objects.select_related("model").filter(
        is_default=True,
        file_state=ModelVersion.FileState.READY,
        model__type=Model.Type.TEXT_GENERATION,
    )
    loaded = set(
        Replica.objects.filter(
            desired=Replica.Desired.RESIDENT, state=Replica.State.READY
        ).values_list("version_id", flat=True)
    )
    return [
        Candidate(
            version.model.slug,
            tuple(version.model.roles_in_force),
            version.pk in loaded,
            version.is_deprecated,
        )
        for version in versions
    ]


def find_preset(name: str, models_dir: Path) -> PresetSpec | None:
    """The preset with the versions of its members, or None if there is no such preset.

    Raises:
        RegistryError: the preset cannot run.
    """
    preset = Preset.objects.filter(name=name).first()
    if preset is None:
        return None
    try:
        settings = read_settings(preset.orchestration_mode, preset.settings)
    except ValueError as error:
        raise RegistryError(f"The preset {name} cannot run: {error}.") from error
    rows = list(preset.members.select_related("model", "version__model"))
    faults = member_faults(preset.orchestration_mode, settings, [row.role for row in rows])
    if faults:
        raise RegistryError(f"The preset {name} cannot run: {'; '.join(faults)}.")
    return PresetSpec(
        name=preset.name,
        mode=preset.orchestration_mode,
        settings=settings,
        default_sampling=preset.default_sampling,
        cache=preset.cache,
        members=tuple(_member(row, models_dir) for row in rows),
    )


def _member(row: PresetMember, models_dir: Path) -> MemberSpec:
    offer = find_offer(row.version.key if row.version else row.model.slug, models_dir)
    if offer is None:
        raise RegistryError(
            f"The preset {row.preset.name} cannot run: {row.model} has no default version. "
            "Make one the default."
        )
    return MemberSpec(row.role, offer)


def fallbacks_of(slug: str) -> list[str]:
    """Ids of the fallback models, in order."""
    rows = Fallback.objects.filter(model__slug=slug).order_by("position", "id")
    return list(rows.values_list("target__slug", flat=True))
