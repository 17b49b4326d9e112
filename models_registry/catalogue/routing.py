"""Find versions by role, type of task or preset; ``lookup`` finds them by name."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from django.db.models import Q

from models_registry.catalogue.lookup import find_offer
from models_registry.errors import RegistryError
from models_registry.models import (
    Fallback,
    Model,
    ModelVersion,
    Preset,
    PresetMember,
    Replica,
    Role,
    RoleAssignment,
    TaskRoute,
)
from models_registry.rules.mode_settings import ModeSettings, OrchestrationMode, read_settings
from models_registry.rules.roles import (
    Candidate,
    Route,
    choose_model,
    choose_parts,
    choose_route,
    decider_of,
    member_faults,
)
from models_registry.rules.spec import MemberSpec, Offer, PresetSpec


def find_offer_for_task(task_type: str, models_dir: Path) -> Offer | None:
    """The version for a type of task, or None if no model with a file has its roles."""
    return _find_offer(_route_of(task_type), models_dir)


def find_offer_for_role(role: str, models_dir: Path) -> Offer | None:
    """The version for a role, or None if no model with a file has it."""
    return _find_offer(Route(role, fallback_role=role), models_dir)


def _route_of(task_type: str) -> Route:
    routes = {row.task_type: Route(row.role, row.fallback_role) for row in TaskRoute.objects.all()}
    return choose_route(task_type, routes)


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


def find_team(
    first: Offer, mode: str, settings: ModeSettings, task_type: str, models_dir: Path
) -> PresetSpec:
    """The models that answer together with ``first``, where no preset names them; without a name.

    Roles decide which models; ``first`` also takes the parts for which there is no other model.
    """
    slug, task_role = first.spec.model_slug, _route_of(task_type).role
    roles_of: dict[str, list[str]] = {}
    is_meant = Q(own_tasks_only=False) | Q(role=task_role)
    for row in RoleAssignment.objects.filter(is_meant, mode=mode):
        roles_of.setdefault(row.participant, []).append(row.role)
    parts = choose_parts(settings, slug, _candidates(), roles_of)
    offers = {name: _if_ready(find_offer(name, models_dir)) for _, name in parts if name != slug}
    members = tuple(MemberSpec(part, offers.get(name) or first) for part, name in parts)
    return _with_decider(PresetSpec("", mode, settings, {}, {}, members), models_dir)


def _if_ready(offer: Offer | None) -> Offer | None:
    """The offer if its model generates text and its file is here."""
    is_text = offer is not None and offer.spec.type == Model.Type.TEXT_GENERATION
    return offer if offer and is_text and not offer.spec.missing_file_state else None


def _with_decider(team: PresetSpec, models_dir: Path) -> PresetSpec:
    """The team with a member that makes one answer of several, if its mode needs one.

    That is the first member with the role or the name in the settings, else a model with it whose
    file is here, else the first member.
    """
    part, wanted = decider_of(team.settings) or ("", "")
    if not part or any(member.role == part for member in team.members):
        return team
    offers, names = [member.offer for member in team.members], {wanted}
    if is_role := wanted in Role.values:
        models = Model.objects.filter(slug__in={offer.spec.model_slug for offer in offers})
        names = {model.slug for model in models if wanted in model.roles_in_force}
    own = (one for one in offers if names & {one.spec.model_slug, one.spec.version_key})
    find = find_offer_for_role if is_role else find_offer
    offer = next(own, None) or _if_ready(find(wanted, models_dir)) or offers[0]
    return replace(team, members=(*team.members, MemberSpec(part, offer)))


def find_preset(
    name: str, models_dir: Path, defaults: Mapping[str, ModeSettings] | None = None
) -> PresetSpec | None:
    """The preset with the versions of its members, or None if there is no such preset.

    Where its mode needs a member that it does not name, to reconcile or synthesise, that is the
    last one. ``defaults`` are settings of modes that it does not set itself.

    Raises:
        RegistryError: the preset cannot run.
    """
    preset = Preset.objects.filter(name=name).first()
    if preset is None:
        return None
    mode = preset.orchestration_mode
    try:
        settings = read_settings(mode, preset.settings, (defaults or {}).get(mode))
    except ValueError as error:
        raise RegistryError(f"The preset {name} cannot run: {error}.") from error
    rows = list(preset.members.select_related("model", "version__model"))
    faults = member_faults(mode, settings, [row.role for row in rows])
    if faults:
        raise RegistryError(f"The preset {name} cannot run: {'; '.join(faults)}.")
    spec = PresetSpec(
        name=preset.name,
        mode=mode,
        settings=settings,
        default_sampling=preset.default_sampling,
        cache=preset.cache,
        members=tuple(_member(row, models_dir) for row in rows),
    )
    return _with_decider(spec, models_dir)


def runnable_presets() -> list[Preset]:
    """The presets of several models whose files are all here, by name."""
    presets = Preset.objects.exclude(orchestration_mode=OrchestrationMode.SINGLE)
    rows = presets.prefetch_related("members__version", "members__model__versions")
    versions = {
        preset: [row.version or row.model.default_version for row in preset.members.all()]
        for preset in rows.order_by("name")
    }
    ready = ModelVersion.FileState.READY
    return [
        preset
        for preset, needed in versions.items()
        if needed and all(one is not None and one.file_state == ready for one in needed)
    ]


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
