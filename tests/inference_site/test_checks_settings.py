"""System checks: settings that do not fit each other stop the start."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from inference_site.checks import check_inference_settings, check_unread_variables


def ids() -> list[str | None]:
    found = check_inference_settings() + check_unread_variables()
    return [message.id for message in found]


def change(settings: Any, **fields: Any) -> None:
    settings.INFERENCE = dataclasses.replace(settings.INFERENCE, **fields)


def test_checks_find_nothing_in_the_defaults():
    assert ids() == []


@pytest.mark.parametrize(("lease", "found"), [(1.9, ["inference.E001"]), (2.0, [])])
def test_check_of_lease_and_heartbeat(settings: Any, lease: float, found: list[str]):
    change(settings, heartbeat_seconds=1.0, lease_seconds=lease)
    assert ids() == found


@pytest.mark.parametrize(("length", "found"), [(31, ["inference.E002"]), (32, [])])
def test_check_of_the_tokens_secret(settings: Any, length: int, found: list[str]):
    settings.JWT_SECRET = "x" * length
    assert ids() == found


def test_check_of_the_database(settings: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    assert ids() == ["inference.E003"]


@pytest.mark.parametrize(("queue", "found"), [(601, ["inference.E004"]), (600, [])])
def test_check_of_the_timeouts(settings: Any, queue: float, found: list[str]):
    change(settings, queue_timeout_seconds=queue, request_timeout_seconds=600)
    assert ids() == found


def test_check_warns_of_debug(settings: Any):
    settings.DEBUG = True
    assert ids() == ["inference.W001"]


@pytest.mark.parametrize(
    ("backend", "found"), [("llamacpp", []), ("llama.cpp", []), ("vllm", ["inference.E005"])]
)
def test_check_of_the_backend(settings: Any, backend: str, found: list[str]):
    settings.INFERENCE_BACKEND = backend
    assert ids() == found


@pytest.mark.parametrize(("role", "found"), [("coder", []), ("poet", ["inference.E006"])])
def test_check_of_the_roles(settings: Any, role: str, found: list[str]):
    change(settings, model_roles={"m": ("fast", role)})
    assert ids() == found


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [("http://c:4318", []), ("https://c", []), ("c:4318", ["inference.E007"])],
)
def test_check_of_the_collector(settings: Any, endpoint: str, found: list[str]):
    settings.TRACES_ENDPOINT = endpoint
    assert ids() == found


@pytest.mark.parametrize(
    ("sampler", "found"),
    [("always_on", []), ("parentbased_traceidratio", []), ("often", ["inference.E008"])],
)
def test_check_of_the_sampler(settings: Any, sampler: str, found: list[str]):
    settings.TRACES_SAMPLER = sampler
    assert ids() == found


def test_settings_refuse_a_bad_switch_of_traces_even_without_a_collector(
    settings: Any, tmp_path: Path
):
    ran = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=settings.BASE_DIR,
        env={**os.environ, "BRIGADE_HOME": str(tmp_path), "OTEL_ENABLED": "maybe"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "OTEL_ENABLED='maybe': expected true or false" in ran.stderr


def started(settings: Any, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The settings as a process with these variables reads them."""
    program = (
        "from inference_site.settings import INFERENCE as i, INFERENCE_UNREAD as unread\n"
        "print(i.orchestration, dict(unread))"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=settings.BASE_DIR,
        env={**os.environ, "BRIGADE_HOME": str(home), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_settings_of_orchestration_are_read(settings: Any, tmp_path: Path):
    ran = started(
        settings,
        tmp_path,
        INFERENCE_ORCHESTRATION_MODE="debate",
        INFERENCE_CRITIQUE_MAX_ROUNDS="1",
        INFERENCE_CRITIQUE_THRESHOLD="0.5",
        INFERENCE_DEBATE_MAX_ROUNDS="2",
        INFERENCE_DEBATE_RECONCILE_MODEL="thinker",
        INFERENCE_ENSEMBLE_MIN_AGREEMENT="0.6",
        INFERENCE_ENSEMBLE_SYNTHESIS_MODEL="phi-4",
        INFERENCE_PIPELINE_STAGES="draft, code",
        INFERENCE_ORCHESTRATION_MAX_CALLS="9",
        INFERENCE_ORCHESTRATION_TIMEOUT="8",
        INFERENCE_RUN_TEXT_TTL="7",
        INFERENCE_RUN_GRACE="6",
    )
    assert ran.stdout == (
        "OrchestrationSettings(default_mode='debate', max_calls=9, timeout_seconds=8.0, "
        "text_ttl_seconds=7, grace_seconds=6.0, modes={'single': SingleSettings(), "
        "'critique': CritiqueSettings(max_rounds=1, threshold=0.5), "
        "'debate': DebateSettings(max_rounds=2, reconcile_model='thinker'), "
        "'ensemble': EnsembleSettings(min_agreement=0.6, synthesis_model='phi-4'), "
        "'pipeline': PipelineSettings(stages=('draft', 'code'))}) {}\n"
    ), ran.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INFERENCE_PIPELINE_STAGES", ","),
        ("INFERENCE_DEBATE_RECONCILE_MODEL", "x" * 101),
        ("INFERENCE_CRITIQUE_MAX_ROUNDS", "11"),
        ("INFERENCE_ORCHESTRATION_MODE", "quarrel"),
    ],
)
def test_settings_of_orchestration_that_make_no_sense_stop_the_start(
    settings: Any, tmp_path: Path, name: str, value: str
):
    last = started(settings, tmp_path, **{name: value}).stderr.splitlines()[-1]
    assert "ImproperlyConfigured" in last
    assert name in last or name.split("_")[1].lower() in last


@pytest.mark.parametrize(
    ("name", "similar", "advice"),
    [
        ("INFERENCE_MAX_QUEUE_SIZES", "INFERENCE_MAX_QUEUE_SIZE", "mean INFERENCE_MAX_QUEUE_SIZE"),
        ("INFERENCE_REJECT_WHEN_FULL", "", "Remove it"),
    ],
)
def test_check_warns_of_unread_variables(settings: Any, name: str, similar: str, advice: str):
    settings.INFERENCE_UNREAD = {name: similar}
    (warning,) = check_unread_variables()
    assert warning.id == "inference.W002"
    assert name in warning.msg
    assert advice in warning.msg


def test_checks_are_registered(settings: Any):
    settings.JWT_SECRET = "short"
    with pytest.raises(SystemCheckError, match="JWT_SECRET must have at least 32"):
        call_command("check")


def test_check_of_the_environment_finds_a_name_that_is_misspelt(settings: Any, tmp_path: Path):
    """In a process of its own: the settings are read once."""
    ran = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=settings.BASE_DIR,
        env={**os.environ, "BRIGADE_HOME": str(tmp_path), "INFERENCE_MODEL_ROLE": "{}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr.count("inference.W002") == 1
    assert "INFERENCE_MODEL_ROLE is set, but is not read" in ran.stderr
    assert "Did you mean INFERENCE_MODEL_ROLES?" in ran.stderr
