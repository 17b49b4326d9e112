"""Enter what the seed file knows into the registry, sparing what people changed there."""

from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import yaml
from django.db import connection, transaction

from models_registry.catalogue.rollout import begin_default
from models_registry.files.inspection import forget_file
from models_registry.models import (
    ContextBudget,
    Fallback,
    Model,
    ModelVersion,
    Preset,
    PresetMember,
    RoleAssignment,
    Source,
    TaskRoute,
)
from models_registry.seed.ledger import SeedLedger, SeedReport, may_change

SEED_FILE = Path(__file__).parents[1] / "seed" / "registry.yaml"
Entry = dict[str, Any]
# Any number that no other pair of advisory locks here begins with.
_LOCK: Final = 0x7366


def seed_registry(path: Path = SEED_FILE, restore: bool = False) -> SeedReport:
    """Bring the registry up to date with the seed file.

    A field that somebody changed since it was last seeded stays as it is. So does a row that
    somebody entered before the seed had it, and one that was deleted stays away.

    Args:
        path: the seed file.
        restore: add rows that were deleted again.

    Returns:
        What was added and updated, and what was left alone.
    """
    seed: Entry = yaml.safe_load(path.read_text())
    with transaction.atomic():
        _take_turns()
        ledger = SeedLedger(restore)
        for entry in seed["task_routes"]:
            task_type = entry.pop("task_type")
            ledger.put(TaskRoute, task_type, {"task_type": task_type}, entry)
        for entry in seed["role_assignments"]:
            identity = {key: entry.pop(key) for key in ("mode", "role", "participant")}
            ledger.put(RoleAssignment, "/".join(identity.values()), identity, entry)
        fallbacks = {entry["slug"]: entry.pop("fallbacks", []) for entry in seed["models"]}
        models = {entry["slug"]: _seed_model(ledger, entry) for entry in seed["models"]}
        _seed_fallbacks(ledger, fallbacks, models)
        for entry in seed["presets"]:
            usual = seed["mode_settings"][entry["orchestration_mode"]]
            _seed_preset(ledger, entry, usual, models)
    return ledger.report


def first_run_slugs(path: Path = SEED_FILE) -> list[str]:
    """Models that a new installation fetches and loads without being asked."""
    slugs: list[str] = yaml.safe_load(path.read_text())["first_run"]
    return slugs


def _take_turns() -> None:
    """Let one machine at a time seed a registry; the others then find its rows."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", [_LOCK])


def _seed_model(ledger: SeedLedger, entry: Entry) -> Model | None:
    slug = entry.pop("slug")
    versions = entry.pop("versions")
    model: Model | None = ledger.put(Model, slug, {"slug": slug}, entry)
    if model is not None:
        labels = [_seed_version(ledger, model, slug, version) for version in versions]
        _seed_default(ledger, model, slug, labels[0])
    return model


def _seed_version(ledger: SeedLedger, model: Model, slug: str, entry: Entry) -> str:
    """Enter a version with its sources and budget; returns its label."""
    label: str = entry.pop("label")
    sources, budget = entry.pop("sources"), entry.pop("context_budget", None)
    name = f"{slug}@{label}"
    rows = model.versions.values("pk", "file_name", "sha256")
    before: dict[int, Entry] = {row["pk"]: dict(row) for row in rows}
    version = ledger.put(ModelVersion, name, {"model": model, "label": label}, _in_bytes(entry))
    if version is None:
        return label
    old = before.get(version.pk, {})
    forget_file(version, {key for key, value in old.items() if getattr(version, key) != value})
    for position, url in enumerate(sources):
        identity = {"version": version, "url": url}
        ledger.put(Source, f"{name} {url}", identity, {"position": position})
    if budget is not None:
        sections = {f"{section}_tokens": tokens for section, tokens in budget.items()}
        ledger.put(ContextBudget, name, {"version": version}, sections)
    return label


def _seed_default(ledger: SeedLedger, model: Model, slug: str, wanted: str) -> None:
    """Make the seed's default the default, unless somebody chose another, or none."""
    name = f"default of {slug}"
    current = model.versions.filter(is_default=True).values_list("label", flat=True).first()
    version = model.versions.filter(label=wanted).first()
    if version is None:
        return
    if f"model {slug}" in ledger.report.added:
        begin_default(version)
    elif may_change(current, ledger.last_value(name), wanted):
        begin_default(version)
        ledger.report.updated.append(f"{name}: {wanted}")
    elif current != wanted:
        ledger.report.kept.append(name)
    ledger.remember_value(name, version.pk, wanted)


def _seed_fallbacks(
    ledger: SeedLedger, fallbacks: dict[str, list[str]], models: dict[str, Model | None]
) -> None:
    for slug, targets in fallbacks.items():
        for position, target in enumerate(targets):
            if models[slug] is not None and models[target] is not None:
                identity = {"model": models[slug], "target": models[target]}
                ledger.put(Fallback, f"{target} for {slug}", identity, {"position": position})


def _seed_preset(
    ledger: SeedLedger, entry: Entry, usual_settings: Entry, models: dict[str, Model | None]
) -> None:
    name, members = entry.pop("name"), entry.pop("members")
    entry["settings"] = usual_settings | entry.get("settings", {})
    preset = ledger.put(Preset, name, {"name": name}, _in_bytes(entry))
    if preset is None:
        return
    names = [f"{name}/{position}" for position in range(len(members))]
    if preset.members.exists() and not any(ledger.knows(PresetMember, it) for it in names):
        # Somebody's own preset of this name: members of two casts do not mix.
        ledger.report.kept.append(f"preset {name}: members")
        return
    for position, member in enumerate(members):
        slug, role = member.split()
        model = models[slug]
        if model is not None:
            identity = {"preset": preset, "position": position}
            fields = {"role": role, "model": model}
            ledger.put(PresetMember, names[position], identity, fields, adopts=False)


def _in_bytes(entry: Entry) -> Entry:
    """The entry with its ``memory_gb`` in the registry's own field."""
    if "memory_gb" in entry:
        gigabytes = Decimal(str(entry.pop("memory_gb")))
        entry["documented_memory_bytes"] = int(gigabytes * 10**9)
    return entry
