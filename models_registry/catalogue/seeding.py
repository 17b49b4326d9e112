"""Bring the registry up to date with the seed file, except where people changed it."""

from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import yaml
from django.db import connection, transaction

from models_registry.catalogue.rollout import set_default
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
from models_registry.seed.writer import SeedReport, SeedWriter, may_change

SEED_FILE = Path(__file__).parents[1] / "seed" / "registry.yaml"
Entry = dict[str, Any]
# First key of a Postgres advisory lock, unique in this project.
_LOCK: Final = 0x7366


def seed_registry(path: Path = SEED_FILE, restore: bool = False) -> SeedReport:
    """Add and update rows of the seed file.

    Fields that people changed since the last seeding stay, and so do rows that they entered before
    the seed had them. Deleted rows are not added again unless ``restore`` is set.
    """
    seed: Entry = yaml.safe_load(path.read_text())
    with transaction.atomic(), connection.cursor() as cursor:
        # One machine at a time; the next then finds these rows.
        cursor.execute("SELECT pg_advisory_xact_lock(%s, 0)", [_LOCK])
        writer = SeedWriter(restore)
        for entry in seed["task_routes"]:
            task_type = entry.pop("task_type")
            writer.put(TaskRoute, task_type, {"task_type": task_type}, entry)
        for entry in seed["role_assignments"]:
            identity = {key: entry.pop(key) for key in ("mode", "role", "participant")}
            writer.put(RoleAssignment, "/".join(identity.values()), identity, entry)
        fallbacks = {entry["slug"]: entry.pop("fallbacks", []) for entry in seed["models"]}
        models = {entry["slug"]: _seed_model(writer, entry) for entry in seed["models"]}
        for slug, targets in fallbacks.items():
            for position, target in enumerate(targets):
                if models[slug] is not None and models[target] is not None:
                    identity = {"model": models[slug], "target": models[target]}
                    writer.put(Fallback, f"{target} for {slug}", identity, {"position": position})
        for entry in seed["presets"]:
            defaults = seed["mode_settings"][entry["orchestration_mode"]]
            _seed_preset(writer, entry, defaults, models)
    return writer.report


def first_run_slugs(path: Path = SEED_FILE) -> list[str]:
    """Models that the first start of a new installation downloads and loads."""
    slugs: list[str] = yaml.safe_load(path.read_text())["first_run"]
    return slugs


def _seed_model(writer: SeedWriter, entry: Entry) -> Model | None:
    slug = entry.pop("slug")
    versions = entry.pop("versions")
    model: Model | None = writer.put(Model, slug, {"slug": slug}, entry)
    if model is not None:
        labels = [_seed_version(writer, model, slug, version) for version in versions]
        _seed_default(writer, model, slug, labels[0])
    return model


def _seed_version(writer: SeedWriter, model: Model, slug: str, entry: Entry) -> str:
    """Seed a version with its sources and context budget; returns its label."""
    label: str = entry.pop("label")
    sources, budget = entry.pop("sources"), entry.pop("context_budget", None)
    name = f"{slug}@{label}"
    rows = model.versions.values("pk", "file_name", "sha256")
    before: dict[int, Entry] = {row["pk"]: dict(row) for row in rows}
    version = writer.put(ModelVersion, name, {"model": model, "label": label}, _in_bytes(entry))
    if version is None:
        return label
    old = before.get(version.pk, {})
    forget_file(version, {key for key, value in old.items() if getattr(version, key) != value})
    for position, url in enumerate(sources):
        identity = {"version": version, "url": url}
        writer.put(Source, f"{name} {url}", identity, {"position": position})
    if budget is not None:
        sections = {f"{section}_tokens": tokens for section, tokens in budget.items()}
        writer.put(ContextBudget, name, {"version": version}, sections)
    return label


def _seed_default(writer: SeedWriter, model: Model, slug: str, wanted: str) -> None:
    """Make the seed's default the default, unless a person chose another or none."""
    name = f"default of {slug}"
    current = model.versions.filter(is_default=True).values_list("label", flat=True).first()
    version = model.versions.filter(label=wanted).first()
    if version is None:
        return
    if f"model {slug}" in writer.report.added:
        set_default(version, needs_file=False)
    elif may_change(current, writer.last_value(name), wanted):
        set_default(version, needs_file=False)
        writer.report.updated.append(f"{name}: {wanted}")
    elif current != wanted:
        writer.report.kept.append(name)
    writer.remember_value(name, version.pk, wanted)


def _seed_preset(
    writer: SeedWriter, entry: Entry, default_settings: Entry, models: dict[str, Model | None]
) -> None:
    name, members = entry.pop("name"), entry.pop("members")
    entry["settings"] = default_settings | entry.get("settings", {})
    preset = writer.put(Preset, name, {"name": name}, _in_bytes(entry))
    if preset is None:
        return
    names = [f"{name}/{position}" for position in range(len(members))]
    if preset.members.exists() and not any(writer.knows(PresetMember, it) for it in names):
        # A person's own preset of this name: do not mix its members with the seed's.
        writer.report.kept.append(f"preset {name}: members")
        return
    for position, member in enumerate(members):
        slug, role = member.split()
        model = models[slug]
        if model is not None:
            identity = {"preset": preset, "position": position}
            fields = {"role": role, "model": model}
            writer.put(PresetMember, names[position], identity, fields, adopts=False)


def _in_bytes(entry: Entry) -> Entry:
    """The entry with ``memory_gb`` converted to ``documented_memory_bytes``."""
    if "memory_gb" in entry:
        gigabytes = Decimal(str(entry.pop("memory_gb")))
        entry["documented_memory_bytes"] = int(gigabytes * 10**9)
    return entry
