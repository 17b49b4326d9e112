"""Counted claims of programs on models; programs call ``inference.model_manager``."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from django.db import connection, transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone

from models_registry.audit import acting
from models_registry.catalogue.lookup import find_version, spec_of
from models_registry.clock import database_now
from models_registry.files.downloads import start_download
from models_registry.models import Download, ModelVersion, Registration, Replica
from models_registry.models.registrations import MAX_NAME
from models_registry.rules.requirement import (
    ModelRequirement,
    RequirementError,
    check_requirement,
    read_requirement,
)

# ``last_used_at`` is for people; writing it at every use would cost a commit each.
_LAST_USED_STEP: Final = timedelta(minutes=1)
# Any numbers that no other pair of advisory locks here begins with.
_NAMES: Final = 0x7265
_REQUIREMENTS: Final = 0x7266
# A released row is kept so long, so that releasing it once more, or registering anew, finds it.
RELEASED_KEPT: Final = timedelta(days=30)


@dataclass(frozen=True)
class Registered:
    """``references`` counts all claims on the version; a ``download`` fetches its missing file."""

    registration: Registration
    is_new: bool
    references: int
    download: Download | None = None


@dataclass(frozen=True)
class Claim:
    """The registrations of one version together; ``device`` is the oldest wish for one.

    Without references, ``released_at`` is the time of the last release, and ``loaded_at`` the time
    from which it has been in memory on demand; None where it is not.
    """

    references: int = 0
    preload_workers: int = 0
    device: str = ""
    released_at: datetime | None = None
    loaded_at: datetime | None = None

    def is_left_over(self, now: datetime, idle_seconds: float) -> bool:
        """Whether the version is in memory only for registrations that were released."""
        if self.released_at is None or self.loaded_at is None:
            return False
        unused_since = now - timedelta(seconds=min(idle_seconds, 1e9))
        return min(self.loaded_at, unused_since) < self.released_at


NO_CLAIM: Final = Claim()


def register(
    model_id: str,
    requirement: ModelRequirement,
    requester: str,
    models_dir: Path,
    actor: Any = None,
) -> Registered:
    """Count ``requester`` as a program that needs a model, until it releases it.

    A file that is not there is fetched. A requirement equal to that of an active registration
    shares its version; otherwise the required name is resolved now.

    Raises:
        RequirementError: it cannot be met, or others have ``model_id`` for something else.
    """
    _check_name(model_id, "model_id")
    _check_name(requester, "requester_module_id")
    wanted = msgspec.to_builtins(read_requirement(requirement))
    with acting(actor), transaction.atomic():
        _lock(_NAMES, model_id)
        # Equal requirements under different names must find each other. Always locked after the
        # name, so that there is no deadlock.
        _lock(_REQUIREMENTS, msgspec.json.encode(wanted).decode())
        known = Registration.objects.select_related("version__model")
        row = known.filter(model_id=model_id, requester=requester).first()
        active = Registration.objects.filter(released_at__isnull=True)
        if row is not None and row.is_active and row.requirement == wanted:
            _check(requirement, row.version, models_dir)
            # A file that failed, or that somebody removed, is fetched once more, too.
            download = _fetch(row.version, actor)
            return Registered(row, False, count_references(row.version), download)
        others = active.filter(model_id=model_id).exclude(requester=requester).first()
        if others is not None and others.requirement != wanted:
            raise RequirementError(
                f"{others.requester} has registered {model_id!r} with another requirement. "
                "Use another model_id, or the same requirement.",
                "model_id",
            )
        equal = active.filter(requirement=wanted).select_related("version__model").first()
        version = equal.version if equal else _version_named(requirement.name)
        _check(requirement, version, models_dir)
        row = row or Registration(model_id=model_id, requester=requester)
        row.requirement, row.version = wanted, version
        row.since, row.released_at = timezone.now(), None
        row.save()
        return Registered(row, True, count_references(version), _fetch(version, actor))


def release(registration: Registration, actor: Any = None) -> int:
    """Release a reference, unless it is released already; returns how many its version has left."""
    with acting(actor), transaction.atomic():
        _lock(_NAMES, registration.model_id)
        registration.refresh_from_db()
        if registration.is_active:
            registration.released_at = database_now()
            registration.save(update_fields=["released_at"])
    return count_references(registration.version)


def forget_released() -> None:
    """Delete registrations released long ago, except of versions in memory."""
    with transaction.atomic():
        # Locked, so that nobody registers one anew between reading and deleting it.
        rows = Registration.objects.select_for_update(skip_locked=True).order_by("pk")
        old = rows.filter(released_at__lt=database_now() - RELEASED_KEPT)
        gone = old.exclude(version__replicas__desired=Replica.Desired.RESIDENT)
        Registration.objects.filter(pk__in=[row.pk for row in gone]).delete()


def find_registration(**fields: str) -> Registration | None:
    """The oldest active registration with these fields."""
    if any("\0" in value for value in fields.values()):
        return None  # Postgres refuses to compare with a NUL
    return active_registrations().filter(**fields).first()


def active_registrations() -> QuerySet[Registration]:
    """Registrations that are not released, the oldest first, with their versions."""
    rows = Registration.objects.filter(released_at__isnull=True)
    related = ("version__model", "version__draft_model", "version__context_budget")
    return rows.select_related(*related).order_by("since", "id")


def note_use(registration: Registration) -> None:
    now = timezone.now()
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - _LAST_USED_STEP)
    same = Registration.objects.filter(model_id=registration.model_id, released_at__isnull=True)
    same.filter(stale).update(last_used_at=now)


def count_references(version: ModelVersion) -> int:
    return Registration.objects.filter(version=version, released_at__isnull=True).count()


def claims() -> dict[int, Claim]:
    """Claims by version id, also on versions whose registrations were all released."""
    held: dict[int, list[dict[str, Any]]] = {}
    for row in Registration.objects.filter(released_at__isnull=True).order_by("since", "id"):
        held.setdefault(row.version_id, []).append(row.requirement)
    gone = Registration.objects.filter(released_at__isnull=False).exclude(version__in=held.keys())
    last = gone.order_by().values("version_id").annotate(last=Max("released_at"))
    released = dict(last.values_list("version_id", "last"))
    loaded = _loaded_at(released) if released else {}
    found = {
        version_id: Claim(released_at=moment, loaded_at=loaded.get(version_id))
        for version_id, moment in released.items()
    }
    for version_id, wanted in held.items():
        devices = (wish["device"] for wish in wanted if wish["device"] != "auto")
        preload_workers = max(wish["preload_workers"] for wish in wanted)
        found[version_id] = Claim(len(wanted), preload_workers, next(devices, ""))
    return found


def _loaded_at(version_ids: Collection[int]) -> dict[int, datetime]:
    wanted = Replica.objects.filter(version__in=version_ids, desired=Replica.Desired.RESIDENT)
    replicas = list(wanted.order_by("-state_since"))
    by_people = {row.version_id for row in replicas if not row.on_demand}
    # Of several the one that has been there longest counts: it comes last.
    return {
        row.version_id: row.state_since
        for row in replicas
        if row.state == Replica.State.READY and row.version_id not in by_people
    }


def _lock(kind: int, subject: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [kind, subject])


def _check_name(value: str, field: str) -> None:
    if not 0 < len(value) <= MAX_NAME or "\0" in value:
        raise RequirementError(f"{field} must have 1 to {MAX_NAME} characters, and no NUL.", field)


def _check(requirement: ModelRequirement, version: ModelVersion, models_dir: Path) -> None:
    """Raise ``RequirementError`` unless a version meets it, as far as its row tells."""
    was_read = version.architecture or version.file_state == ModelVersion.FileState.READY
    check_requirement(
        requirement,
        spec_of(version, models_dir),
        type_is_known=bool(was_read) or not version.model_follows_file,
    )


def _version_named(name: str) -> ModelVersion:
    """The version of a model id, or of a Hugging Face repository: by its source, then its name."""
    version = find_version(name)
    if version is None and "/" in name:
        source = Q(sources__url__startswith=f"hf://{name}/")
        rows = ModelVersion.objects.filter(source, is_default=True)
        version = rows.select_related("model", "draft_model").first()
        version = version or find_version(name.rpartition("/")[2].lower())
    if version is None:
        raise RequirementError(
            f"The model {name!r} is not registered. GET /v1/models lists the registered models; "
            "POST /api/models/download adds one.",
            "name",
        )
    return version


def _fetch(version: ModelVersion, actor: Any) -> Download | None:
    if version.file_state == ModelVersion.FileState.READY:
        return None
    if not version.sources.exists():
        raise RequirementError(
            f"The file of {version.key} is {version.file_state}, and it has no source to fetch it "
            "from. Add one in the admin.",
            "name",
        )
    return start_download(version, actor)
