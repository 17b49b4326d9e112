"""Counted claims on models: who needs which, and what that means for memory.

``inference.model_manager`` is what programs call; the routes and the residency plan use these.
"""

from collections.abc import Iterable
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
# A released row is kept so long, so that giving it up once more, or registering anew, finds it.
RELEASED_KEPT: Final = timedelta(days=30)


@dataclass(frozen=True)
class Registered:
    """What came of ``register``: ``references`` counts all claims on the version.

    ``is_new`` is false where the requester had registered the same already. ``download`` is under
    way where the file was not there.
    """

    registration: Registration
    is_new: bool
    references: int
    download: Download | None = None


@dataclass(frozen=True)
class Claim:
    """What the registrations of one version want of its residency.

    ``device`` is the wish of the oldest that has one, "" where none has. Without references,
    ``released_at`` is when the last one went, and ``loaded_at`` since when it has been in memory
    without a person's word; None where it is not.
    """

    references: int = 0
    preload_workers: int = 0
    device: str = ""
    released_at: datetime | None = None
    loaded_at: datetime | None = None

    def is_left_over(self, now: datetime, idle_seconds: float) -> bool:
        """Whether what is in memory was only for those who have gone.

        Args:
            now: the time.
            idle_seconds: since the last request for the version.
        """
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
    """Count ``requester`` as somebody who needs a model, until it releases it.

    A file that is not there is fetched. Whoever asks for the same as an active registration shares
    its version; otherwise the name means what it means now.

    Args:
        model_id: what the requester calls it. Others may use the same for the same requirement.
        requirement: what is needed.
        requester: the program that asks; asking twice counts once.
        models_dir: where the files are.
        actor: the user who asks, for the audit trail.

    Raises:
        RequirementError: it cannot be met, or others have ``model_id`` for something else.
    """
    _check_name(model_id, "model_id")
    _check_name(requester, "requester_module_id")
    wanted = msgspec.to_builtins(read_requirement(requirement))
    with acting(actor), transaction.atomic():
        _take_turns(_NAMES, model_id)
        # Equal requirements under different names must find each other. Always after the name:
        # so nobody waits for somebody who waits for them.
        _take_turns(_REQUIREMENTS, msgspec.json.encode(wanted).decode())
        known = Registration.objects.select_related("version__model")
        row = known.filter(model_id=model_id, requester=requester).first()
        active = Registration.objects.filter(released_at__isnull=True)
        if row is not None and row.is_active and row.requirement == wanted:
            _check(requirement, row.version, models_dir)
            # Also a file that failed, or that somebody removed, is fetched once more.
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
    """Give up a reference; one that was given up already stays so.

    Returns:
        The references to its version that are left. At 0 it leaves memory once it is idle, unless
        somebody else wants it there.
    """
    with acting(actor), transaction.atomic():
        _take_turns(_NAMES, registration.model_id)
        registration.refresh_from_db()
        if registration.is_active:
            registration.released_at = database_now()
            registration.save(update_fields=["released_at"])
    return count_references(registration.version)


def forget_released() -> None:
    """Delete what was released long ago; not while its version is in memory, maybe since then."""
    with transaction.atomic():
        # Locked, so that nobody registers one anew between the look and its end.
        rows = Registration.objects.select_for_update(skip_locked=True).order_by("pk")
        old = rows.filter(released_at__lt=database_now() - RELEASED_KEPT)
        gone = old.exclude(version__replicas__desired=Replica.Desired.RESIDENT)
        Registration.objects.filter(pk__in=[row.pk for row in gone]).delete()


def find_registration(**fields: str) -> Registration | None:
    """The oldest active registration with these fields, or None."""
    if any("\0" in value for value in fields.values()):
        return None  # Postgres refuses to compare with a NUL
    return active_registrations().filter(**fields).first()


def active_registrations() -> QuerySet[Registration]:
    """All references there are, the oldest first, with their versions."""
    rows = Registration.objects.filter(released_at__isnull=True)
    return rows.select_related("version__model", "version__draft_model").order_by("since", "id")


def note_use(registration: Registration) -> None:
    """Remember that everybody's registration of this ``model_id`` was used now, to the minute."""
    now = timezone.now()
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - _LAST_USED_STEP)
    same = Registration.objects.filter(model_id=registration.model_id, released_at__isnull=True)
    same.filter(stale).update(last_used_at=now)


def count_references(version: ModelVersion) -> int:
    """Active registrations of a version, under whatever names."""
    return Registration.objects.filter(version=version, released_at__isnull=True).count()


def claims() -> dict[int, Claim]:
    """What registrations want, by version id."""
    held: dict[int, list[Registration]] = {}
    for row in Registration.objects.filter(released_at__isnull=True).order_by("since", "id"):
        held.setdefault(row.version_id, []).append(row)
    gone = Registration.objects.filter(released_at__isnull=False).exclude(version__in=held.keys())
    last = gone.order_by().values("version_id").annotate(last=Max("released_at"))
    released = dict(last.values_list("version_id", "last"))
    loaded = _loaded_at(released) if released else {}
    return {version_id: _claim_of(rows) for version_id, rows in held.items()} | {
        version_id: Claim(released_at=moment, loaded_at=loaded.get(version_id))
        for version_id, moment in released.items()
    }


def _claim_of(rows: list[Registration]) -> Claim:
    wishes = [row.requirement["device"] for row in rows if row.requirement["device"] != "auto"]
    return Claim(
        references=len(rows),
        preload_workers=max(row.requirement["preload_workers"] for row in rows),
        device=wishes[0] if wishes else "",
    )


def _loaded_at(version_ids: Iterable[int]) -> dict[int, datetime]:
    """Since when versions have been in memory that no person has loaded."""
    loaded: dict[int, datetime] = {}
    by_people = set()
    for replica in Replica.objects.filter(
        version__in=list(version_ids), desired=Replica.Desired.RESIDENT
    ):
        if not replica.on_demand:
            by_people.add(replica.version_id)
        elif replica.state == Replica.State.READY:
            since = loaded.get(replica.version_id, replica.state_since)
            loaded[replica.version_id] = min(since, replica.state_since)
    return {
        version_id: since for version_id, since in loaded.items() if version_id not in by_people
    }


def _take_turns(lock: int, subject: str) -> None:
    """Let one transaction at a time change the registrations of a subject."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [lock, subject])


def _check_name(value: str, field: str) -> None:
    if not 0 < len(value) <= MAX_NAME or "\0" in value:
        raise RequirementError(f"{field} must have 1 to {MAX_NAME} characters, and no NUL.", field)


def _check(requirement: ModelRequirement, version: ModelVersion, models_dir: Path) -> None:
    """Raise ``RequirementError`` unless a version is what is required, as far as is known."""
    was_read = version.architecture or version.file_state == ModelVersion.FileState.READY
    check_requirement(
        requirement,
        spec_of(version, models_dir),
        type_is_known=bool(was_read) or not version.model_follows_file,
    )


def _version_named(name: str) -> ModelVersion:
    """The version of an id, or of the model that comes from a Hugging Face repository.

    A repository is matched with the sources first, else by its last part with the ids.
    """
    version = find_version(name)
    if version is None and "/" in name:
        source = Q(sources__url__startswith=f"hf://{name}/")
        rows = ModelVersion.objects.filter(source, is_default=True)
        version = rows.select_related("model", "draft_model").first()
        version = version or find_version(name.rpartition("/")[2].lower())
    if version is None:
        raise RequirementError(
            f"The model {name!r} is not registered. GET /v1/models lists those that are; "
            "POST /api/models/download adds one.",
            "name",
        )
    return version


def _fetch(version: ModelVersion, actor: Any) -> Download | None:
    """Start to fetch a file that is not there."""
    if version.file_state == ModelVersion.FileState.READY:
        return None
    if not version.sources.exists():
        raise RequirementError(
            f"The file of {version.key} is {version.file_state}, and it has no source to fetch it "
            "from. Add one in the admin.",
            "name",
        )
    return start_download(version, actor)
