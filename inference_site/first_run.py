"""Everything a service needs before its processes start: schema, models, an admin and a key."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import transaction
from rich.console import Console

from inference.models import ApiKey, every_scope, issue_key
from models_registry.catalogue.seeding import first_run_slugs, seed_registry
from models_registry.errors import RegistryError
from models_registry.files.terminal import fetch_with_bar
from models_registry.fleet.desired import load
from models_registry.fleet.nodes import register_this_node
from models_registry.fleet.preloading import configured_versions, forget_other_wishes
from models_registry.fleet.preset_fit import FitReport
from models_registry.models import Model, ModelVersion, Node, Replica
from models_registry.rules.names import path_below

ADMIN_USER = "admin"


@dataclass(frozen=True)
class FirstRun:
    """What was created once, for people and scripts; the secrets exist nowhere else in clear."""

    base_url: str
    api_key: str
    admin_user: str
    admin_password: str


def first_run_path() -> Path:
    """Where it is kept, readable by the owner alone."""
    return Path(settings.BRIGADE_HOME) / "first_run.json"


def base_url() -> str:
    """Where a client on this machine finds the service."""
    host = settings.INFERENCE_HOST
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{settings.INFERENCE_PORT}"


def prepare(console: Console) -> FirstRun | None:
    """Migrate, seed, fetch the default models and create the first admin and key, as needed.

    Args:
        console: for progress.

    Returns:
        The new credentials, or None when they were created before.

    Raises:
        SourceError, GGUFError: a default model could not be fetched.
        RegistryError: the settings name a model or preset that there is not.
    """
    call_command("migrate", interactive=False, verbosity=0)
    inference = settings.INFERENCE
    node = register_this_node(
        settings.NODE_NAME, inference.max_replicas, inference.memory_budget_bytes
    )
    # The wish comes first: a download that fails or is stopped is then made up for next time.
    with transaction.atomic():
        is_new_registry = not ModelVersion.objects.exists()
        seed_registry()
        _check_model_roles()
        if is_new_registry:
            _want_default_versions(node, console)
        _want_configured_versions(node, console)
    wanted = ModelVersion.objects.filter(replicas__desired=Replica.Desired.RESIDENT).distinct()
    for version in wanted.select_related("model"):
        if _is_missing(version):
            fetch_with_bar(console, version, settings.INFERENCE.models_dir)
    return _first_credentials()


def _check_model_roles() -> None:
    named = settings.INFERENCE.model_roles
    known = Model.objects.filter(slug__in=named).values_list("slug", flat=True)
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise RegistryError(
            f"INFERENCE_MODEL_ROLES names {', '.join(unknown)}, which the registry does not know. "
            "GET /v1/models lists what there is."
        )


def _want_default_versions(node: Node, console: Console) -> None:
    defaults = ModelVersion.objects.select_related("model").filter(is_default=True)
    for version in defaults.filter(model__slug__in=first_run_slugs()):
        try:
            load(version, node)
        except RegistryError as error:
            console.print(f"{version.key} is not loaded: {error}")


def _want_configured_versions(node: Node, console: Console) -> None:
    """Load what the settings name, and nothing else; without settings all stays as it was."""
    inference = settings.INFERENCE
    versions = configured_versions(inference.preload_models, inference.config_preset)
    if not versions:
        return
    fit = FitReport([node]).on(node, versions)
    if fit.verdict != "fits":
        for sentence in fit.sentences:
            console.print(f"INFERENCE_PRELOAD_MODELS or INFERENCE_CONFIG: {sentence}")
    forget_other_wishes(versions, node)
    for version in versions:
        try:
            load(version, node)
        except RegistryError as error:
            console.print(f"{version.key} is not loaded: {error}")


def _is_missing(version: ModelVersion) -> bool:
    path = path_below(settings.INFERENCE.models_dir, version.file_name)
    return version.file_state != ModelVersion.FileState.READY or not path.is_file()


def _first_credentials() -> FirstRun | None:
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists() or ApiKey.objects.exists():
        return None
    password = secrets.token_urlsafe(12)
    # Nobody could know credentials that are stored without the file.
    with transaction.atomic():
        user = users.create_superuser(ADMIN_USER, password=password)
        _, secret = issue_key(user, "first run", every_scope())
        created = FirstRun(base_url(), secret, ADMIN_USER, password)
        _write_privately(first_run_path(), json.dumps(asdict(created), indent=2))
    return created


def _write_privately(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    part.replace(path)
