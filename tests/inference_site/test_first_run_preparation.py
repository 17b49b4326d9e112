"""The first start creates models and credentials; later starts keep them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import authenticate, get_user_model
from rich.console import Console

from inference.models import ApiKey, every_scope
from inference.principal import principal_of
from inference_site import first_run
from inference_site.first_run import FirstRun, base_url, first_run_path, prepare
from models_registry.catalogue.seeding import first_run_slugs
from models_registry.errors import RegistryError
from models_registry.models import ModelVersion, Node, Replica
from models_registry.sources.errors import SourceError

pytestmark = pytest.mark.django_db
CONSOLE = Console(quiet=True)


@pytest.fixture
def home(tmp_path: Path, settings: Any) -> Path:
    settings.BRIGADE_HOME = tmp_path
    settings.INFERENCE = dataclasses.replace(settings.INFERENCE, models_dir=tmp_path / "models")
    return tmp_path


@pytest.fixture(autouse=True)
def fetched(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the versions whose file was fetched; nothing is downloaded."""
    keys: list[str] = []

    def fetch(console: Console, version: ModelVersion, models_dir: Path, _fetch: Any) -> None:
        keys.append(version.key)
        path = models_dir / version.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        ModelVersion.objects.filter(pk=version.pk).update(file_state="ready")

    monkeypatch.setattr(first_run, "fetch_with_bar", fetch)
    return keys


def prepared() -> FirstRun:
    created = prepare(CONSOLE)
    assert created is not None
    return created


def test_first_run_creates_an_admin_and_a_key_that_work():
    created = prepared()
    user = authenticate(username=created.admin_user, password=created.admin_password)
    assert user is not None
    assert user.is_superuser
    assert principal_of(created.api_key).scopes == set(every_scope())


def test_first_run_keeps_the_credentials_for_the_owner_alone():
    created = prepared()
    path = first_run_path()
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == dataclasses.asdict(created)
    assert [entry.name for entry in path.parent.glob("first_run*")] == ["first_run.json"]


def test_first_run_does_not_write_through_a_file_that_others_made(home: Path):
    path = first_run_path()
    path.write_text("old")
    path.chmod(0o666)
    prepared()
    assert path.stat().st_mode & 0o777 == 0o600


def test_first_run_loads_and_fetches_the_default_models(fetched: list[str]):
    prepared()
    defaults = {"smollm2-135m@q4_1", "all-minilm-l6-v2@f16"}
    assert set(fetched) == defaults
    wanted = Replica.objects.filter(desired=Replica.Desired.RESIDENT)
    assert {replica.version.key for replica in wanted} == defaults
    assert Node.objects.get().seen_at is not None
    others = ModelVersion.objects.exclude(model__slug__in=first_run_slugs())
    assert {version.file_state for version in others} == {"absent"}


def test_second_run_creates_and_fetches_nothing(fetched: list[str]):
    prepared()
    fetched.clear()
    before = first_run_path().read_text()
    assert prepare(CONSOLE) is None
    assert fetched == []
    assert first_run_path().read_text() == before
    assert ApiKey.objects.count() == get_user_model().objects.count() == 1


def test_later_run_respects_what_was_unloaded(fetched: list[str], home: Path):
    prepared()
    fetched.clear()
    Replica.objects.update(desired=Replica.Desired.ABSENT)
    ModelVersion.objects.update(file_state="absent")
    prepare(CONSOLE)
    assert fetched == []
    assert not Replica.objects.filter(desired=Replica.Desired.RESIDENT).exists()


def test_later_run_fetches_a_wanted_file_that_is_gone(fetched: list[str], home: Path):
    prepared()
    version = ModelVersion.objects.filter(is_default=True)[0]
    (home / "models" / version.file_name).unlink()
    fetched.clear()
    prepare(CONSOLE)
    assert fetched == [version.key]


def test_run_after_a_failed_download_retries_it(
    fetched: list[str], monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as broken:

        def fail(*_args: Any) -> None:
            raise SourceError("no network")

        broken.setattr(first_run, "fetch_with_bar", fail)
        with pytest.raises(SourceError):
            prepare(CONSOLE)
    assert not first_run_path().exists()
    prepared()
    assert fetched


def test_first_run_leaves_an_installation_with_an_admin_alone():
    get_user_model().objects.create_superuser("grace", password="x")
    assert prepare(CONSOLE) is None
    assert not first_run_path().exists()
    assert not ApiKey.objects.exists()


def test_credentials_that_cannot_be_kept_are_not_created(monkeypatch: pytest.MonkeyPatch):
    def fail(*_args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(first_run, "_write_privately", fail)
    with pytest.raises(OSError, match="disk full"):
        prepare(CONSOLE)
    assert not get_user_model().objects.exists()
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - not bound
        ("::", "127.0.0.1"),
        ("::1", "[::1]"),
        ("models.example", "models.example"),
    ],
)
def test_base_url_can_be_opened(settings: Any, host: str, shown: str):
    settings.INFERENCE_HOST, settings.INFERENCE_PORT = host, 9000
    assert base_url() == f"http://{shown}:9000"


def test_roles_of_an_unknown_model_stop_the_start(settings: Any):
    settings.INFERENCE = dataclasses.replace(
        settings.INFERENCE, model_roles={"smollm2-135m": ("fast",), "no-such": ("coder",)}
    )
    with pytest.raises(RegistryError, match="INFERENCE_MODEL_ROLES names no-such, which"):
        prepare(CONSOLE)


def test_settings_that_do_not_fit_at_once_say_by_how_much(settings: Any):
    settings.INFERENCE = dataclasses.replace(
        settings.INFERENCE, preload_models=("phi-4", "gpt-oss-20b"), memory_budget_bytes=10**10
    )
    console = Console(record=True, width=1000)
    prepare(console)
    text = console.export_text()
    assert "cpu: Does not fit at once: it needs" in text
    assert "Too large even alone: gpt-oss-20b" in text
