"""Preparation before the processes start: schema, models, an admin user and an API key."""

import json
import os
import secrets
from collections.abc import Iterable
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
from models_registry.files.download_run import fetch_here
from models_registry.files.terminal import fetch_with_bar
from models_registry.fleet.desired import load
from models_registry.fleet.nodes import register_this_node
from models_registry.fleet.preloading import configured_versions, forget_other_wishes
from models_registry.fleet.preset_fit import FitReport, Verdict
from models_registry.gguf.reader import GGUFError
from models_registry.models import Model, ModelVersion, Node, Replica
from models_registry.rules.names import path_below
from models_registry.sources.errors import SourceError

ADMIN_USER = "admin"
PREPARE_ERRORS = (SourceError, GGUFError, RegistryError)


@dataclass(frozen=True)
class FirstRun:
    """The first credentials; their clear text is stored nowhere else."""

    base_url: str
    api_key: str
    admin_user: str
    admin_password: str


def first_run_path() -> Path:
    return Path(settings.BRIGADE_HOME) / "first_run.json"


def base_url() -> str:
    """Return the address of the service for a client on this machine."""
    host = settings.INFERENCE_HOST
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{settings.INFERENCE_PORT}"


def prepare(console: Console) -> FirstRun | None:
    """Migrate, seed, fetch the default models and create the first admin and key, as needed.

    Returns the new credentials, or None when there are older ones. Raises ``PREPARE_ERRORS``.
    """
    call_command("migrate", interactive=False, verbosity=0)
    inference = settings.INFERENCE
    node = register_this_node(
        settings.NODE_NAME, inference.max_replicas, inference.memory_budget_bytes
    )
    # Desired state first: a download that fails or is stopped is then retried at the next start.
    with transaction.atomic():
        is_new_registry = not ModelVersion.objects.exists()
        seed_registry()
        _check_model_roles()
        if is_new_registry:
            defaults = ModelVersion.objects.select_related("model").filter(is_default=True)
            _load(defaults.filter(model__slug__in=first_run_slugs()), node, console)
        _load_configured_versions(node, console)
    wanted = ModelVersion.objects.filter(replicas__desired=Replica.Desired.RESIDENT).distinct()
    for version in wanted.select_related("model"):
        path = path_below(inference.models_dir, version.file_name)
        if version.file_state != ModelVersion.FileState.READY or not path.is_file():
            fetch_with_bar(console, version, inference.models_dir, fetch_here)
    return _first_credentials()


def _check_model_roles() -> None:
    named = settings.INFERENCE.model_roles
    known = Model.objects.filter(slug__in=named).values_list("slug", flat=True)
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise RegistryError(
            f"INFERENCE_MODEL_ROLES names {', '.join(unknown)}, which the registry does not have. "
            "GET /v1/models lists the models."
        )


def _load(versions: Iterable[ModelVersion], node: Node, console: Console) -> None:
    for version in versions:
        try:
            load(version, node)
        except RegistryError as error:
            console.print(f"{version.key} is not loaded: {error}")


def _load_configured_versions(node: Node, console: Console) -> None:
    """Load the versions of the settings only, beside pinned ones; do nothing without settings."""
    inference = settings.INFERENCE
    versions = configured_versions(inference.preload_models, inference.config_preset)
    if not versions:
        return
    fit = FitReport([node]).fit_on(node, versions)
    if fit.verdict is not Verdict.FITS:
        for sentence in fit.sentences:
            console.print(f"INFERENCE_PRELOAD_MODELS or INFERENCE_CONFIG: {sentence}")
    forget_other_wishes(versions, node)
    _load(versions, node, console)


def _first_credentials() -> FirstRun | None:
    users = get_user_model().objects
    if users.filter(is_superuser=True).exists() or ApiKey.objects.exists():
        return None
    password = secrets.token_urlsafe(12)
    # In one transaction: without the file nobody would know the credentials.
    with transaction.atomic():
        user = users.create_superuser(ADMIN_USER, password=password)
        _, secret = issue_key(user, "first run", every_scope())
        created = FirstRun(base_url(), secret, ADMIN_USER, password)
        _write_privately(first_run_path(), json.dumps(asdict(created), indent=2))
    return created


def _write_privately(path: Path, text: str) -> None:
    """Write a file atomically that only its owner can read."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    part.replace(path)
