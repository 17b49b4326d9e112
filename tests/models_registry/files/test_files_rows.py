"""The files of versions, and what is kept of them in the rows."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from models_registry.errors import RegistryError
from models_registry.files.inspection import fetch_file
from models_registry.gguf.reader import GGUFError
from models_registry.models import ModelVersion
from models_registry.sources.errors import (
    AccessDeniedError,
    ChecksumMismatchError,
    SourceError,
)
from tests.models_registry.file_server import Reply, file_server
from tests.models_registry.fleet_rows import a_version
from tests.models_registry.gguf_samples import TEMPLATE, TOKENS, write_llama

pytestmark = pytest.mark.django_db
State = ModelVersion.FileState


def absent(*urls: str, **fields: Any) -> ModelVersion:
    """A version that is not here, with these sources."""
    version = a_version(file_state=State.ABSENT, **fields)
    for position, url in enumerate(urls):
        version.sources.create(position=position, url=url)
    return version


def ignore(*_: object) -> None:
    """Progress that nobody looks at."""


def test_fetch_file_without_source_and_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"no source, and .*a\.gguf does not exist"):
        fetch_file(absent(), tmp_path, ignore)


def test_fetch_file_enters_what_the_header_says(tmp_path: Path) -> None:
    version = absent(write_llama(tmp_path / "here.gguf").as_uri())

    fetch_file(version, tmp_path / "models", ignore)

    version.refresh_from_db()
    assert (version.file_state, version.file_error) == ("ready", "")
    assert (version.architecture, version.context_length_tokens) == ("llama", 64)
    assert (version.chat_template, version.vocabulary_size) == (TEMPLATE, len(TOKENS))
    assert version.kv_bytes_per_token == 2 * 2 * (8 + 8) * 2
    assert version.capabilities == version.model.capabilities == ["chat", "completion"]
    data = (tmp_path / "models" / "a.gguf").read_bytes()
    assert (version.size_bytes, version.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_fetch_file_pins_what_came(tmp_path: Path) -> None:
    version = absent(write_llama(tmp_path / "here.gguf").as_uri())
    fetch_file(version, tmp_path / "models", ignore)
    (tmp_path / "models" / "a.gguf").unlink()
    write_llama(tmp_path / "here.gguf", **{"llama.rope.dimension_count": 8})

    with pytest.raises(SourceError, match="is not the expected file"):
        fetch_file(ModelVersion.objects.get(pk=version.pk), tmp_path / "models", ignore)


def test_fetch_file_takes_a_replaced_file_when_nothing_is_pinned(tmp_path: Path) -> None:
    version = absent(write_llama(tmp_path / "here.gguf").as_uri())
    fetch_file(version, tmp_path / "models", ignore)
    write_llama(tmp_path / "here.gguf", **{"llama.rope.dimension_count": 8})
    ModelVersion.objects.filter(pk=version.pk).update(sha256="", size_bytes=None)

    version = ModelVersion.objects.get(pk=version.pk)
    fetch_file(version, tmp_path / "models", ignore)

    new = (tmp_path / "here.gguf").read_bytes()
    assert (tmp_path / "models" / "a.gguf").read_bytes() == new
    assert version.sha256 == hashlib.sha256(new).hexdigest()


def test_fetch_file_accepts_what_somebody_put_there_without_a_source(tmp_path: Path) -> None:
    write_llama(tmp_path / "a.gguf")
    version = absent()

    fetch_file(version, tmp_path, ignore)

    assert version.file_state == "ready"


@pytest.mark.parametrize("allowed", [False, True])
def test_fetch_file_of_a_source_for_public_addresses(
    tmp_path: Path, settings: Any, allowed: bool
) -> None:
    data = write_llama(tmp_path / "here.gguf").read_bytes()
    settings.SOURCES_ALLOW_PRIVATE = allowed
    with file_server(data) as server:
        version = absent(f"{server.url}/m.gguf")
        version.sources.update(only_public=True)
        if allowed:
            fetch_file(version, tmp_path / "models", ignore)
        else:
            with pytest.raises(SourceError, match="address of this machine"):
                fetch_file(version, tmp_path / "models", ignore)
        assert bool(server.requests) == allowed


def test_fetch_file_does_not_leave_the_models_directory(tmp_path: Path) -> None:
    source = write_llama(tmp_path / "here.gguf").as_uri()
    version = absent(source, file_name="../outside.gguf")

    with pytest.raises(RegistryError, match="below the models directory"):
        fetch_file(version, tmp_path / "models", ignore)

    assert not (tmp_path / "outside.gguf").exists()


def test_fetch_file_keeps_what_was_edited_meanwhile(tmp_path: Path) -> None:
    version = absent(write_llama(tmp_path / "here.gguf").as_uri())

    def edit(*_: object) -> None:
        ModelVersion.objects.filter(pk=version.pk).update(chat_template="mine", kv_cells=999)

    fetch_file(version, tmp_path / "models", edit)

    version = ModelVersion.objects.get(pk=version.pk)
    assert (version.chat_template, version.kv_cells) == ("mine", 999)
    assert version.file_state == "ready"


def test_fetch_file_makes_an_embedding_model_of_a_new_encoder(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "here.gguf", **{"llama.pooling_type": 1})
    version = absent(path.as_uri())

    fetch_file(version, tmp_path / "models", ignore)

    version.model.refresh_from_db()
    assert (version.model.type, version.capabilities) == ("embedding", ["embedding"])


def test_fetch_file_takes_the_next_source_when_one_fails(tmp_path: Path) -> None:
    here = write_llama(tmp_path / "here.gguf")
    version = absent(f"file://{tmp_path}/nowhere.gguf", here.as_uri())

    fetch_file(version, tmp_path / "models", ignore)

    assert (tmp_path / "models" / "a.gguf").is_file()


def test_fetch_file_tells_the_reason_of_every_source(tmp_path: Path) -> None:
    version = absent(f"file://{tmp_path}/one.gguf", f"file://{tmp_path}/two.gguf")

    with pytest.raises(SourceError, match=r"None of the 2 sources.*one\.gguf.*two\.gguf"):
        fetch_file(version, tmp_path / "models", ignore)

    version.refresh_from_db()
    assert version.file_state == "failed"
    assert "two.gguf" in version.file_error


def test_fetch_file_that_is_no_model_never_takes_its_place(tmp_path: Path) -> None:
    whole = write_llama(tmp_path / "here.gguf").read_bytes()
    (tmp_path / "here.gguf").write_bytes(whole[:-100])
    version = absent((tmp_path / "here.gguf").as_uri())

    with pytest.raises(GGUFError, match="truncated"):
        fetch_file(version, tmp_path / "models", ignore)

    assert [path.name for path in (tmp_path / "models").iterdir()] == [".a.gguf.lock"]
    version.refresh_from_db()
    assert version.file_state == "failed"


def serving(tmp_path: Path, **changes: Any) -> ModelVersion:
    """A version whose file was fetched, and changes made to its row since."""
    version = absent(write_llama(tmp_path / "here.gguf").as_uri())
    fetch_file(version, tmp_path / "models", ignore)
    ModelVersion.objects.filter(pk=version.pk).update(**changes)
    return ModelVersion.objects.get(pk=version.pk)


def fail_to_fetch(version: ModelVersion, tmp_path: Path) -> str:
    """Fetch once more, which fails; returns the state that is left."""
    with pytest.raises((SourceError, GGUFError)):
        fetch_file(version, tmp_path / "models", ignore)
    version.refresh_from_db()
    assert bool(version.file_error) == (version.file_state == State.FAILED)
    return version.file_state


def test_file_goes_on_serving_when_its_source_is_gone(tmp_path: Path) -> None:
    version = serving(tmp_path, sha256="", size_bytes=None)
    (tmp_path / "here.gguf").unlink()
    assert fail_to_fetch(version, tmp_path) == State.READY


@pytest.mark.parametrize("sha256", ["", "0" * 64])
def test_file_goes_on_serving_until_a_whole_one_replaces_it(tmp_path: Path, sha256: str) -> None:
    version = serving(tmp_path, sha256=sha256, size_bytes=None)
    old = (tmp_path / "models" / "a.gguf").read_bytes()
    (tmp_path / "here.gguf").write_bytes(old[:-100])
    assert fail_to_fetch(version, tmp_path) == State.READY
    assert (tmp_path / "models" / "a.gguf").read_bytes() == old

    new = write_llama(tmp_path / "here.gguf", **{"llama.rope.dimension_count": 8}).read_bytes()
    ModelVersion.objects.update(sha256=sha256 and hashlib.sha256(new).hexdigest())
    version.refresh_from_db()
    fetch_file(version, tmp_path / "models", ignore)
    assert (tmp_path / "models" / "a.gguf").read_bytes() == new
    assert version.file_state == State.READY


def test_file_that_is_gone_serves_no_more_when_no_other_comes(tmp_path: Path) -> None:
    version = serving(tmp_path)
    for name in ("here.gguf", "models/a.gguf"):
        (tmp_path / name).unlink()
    assert fail_to_fetch(version, tmp_path) == State.FAILED


@pytest.mark.parametrize("kept_bytes", [-100, None])
def test_file_that_was_damaged_serves_no_more_when_no_other_comes(
    tmp_path: Path, kept_bytes: int | None
) -> None:
    version = serving(tmp_path)
    (tmp_path / "here.gguf").unlink()
    path = tmp_path / "models" / "a.gguf"
    path.write_bytes((path.read_bytes()[:-1] + b"!")[:kept_bytes])
    assert fail_to_fetch(version, tmp_path) == State.FAILED


def test_file_that_this_release_cannot_read_serves_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = serving(tmp_path)

    def refuse(path: Path) -> None:
        raise GGUFError(f"{path} is of another time.")

    monkeypatch.setattr("models_registry.files.inspection.read_header", refuse)
    assert fail_to_fetch(version, tmp_path) == State.FAILED


def test_fetch_file_checks_one_that_somebody_put_there(tmp_path: Path) -> None:
    write_llama(tmp_path / "a.gguf")
    version = absent(sha256="0" * 64)

    with pytest.raises(ChecksumMismatchError):
        fetch_file(version, tmp_path, ignore)

    assert (tmp_path / "a.gguf").is_file()


class EnoughError(Exception):
    """Raised by a progress callback."""


@pytest.mark.parametrize("kind", [EnoughError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [State.ABSENT, State.FAILED, State.FETCHING])
def test_fetch_file_that_is_cancelled_tries_nothing_else_and_leaves_the_state(
    tmp_path: Path, kind: type[BaseException], before: str
) -> None:
    here = write_llama(tmp_path / "here.gguf").as_uri()
    version = absent(here, here + "#")
    reason = "no network" if before == State.FAILED else ""
    ModelVersion.objects.update(file_state=before, file_error=reason)
    version.refresh_from_db()
    calls: list[object] = []

    def cancel(*progress: object) -> None:
        calls.append(progress)
        raise kind

    with pytest.raises(kind):
        fetch_file(version, tmp_path / "models", cancel)

    version.refresh_from_db()
    assert version.file_state == (State.ABSENT if before == State.FETCHING else before)
    assert version.file_error == reason
    assert len(calls) == 1


def test_fetch_file_uses_the_token_of_the_settings(tmp_path: Path, settings: Any) -> None:
    with file_server(write_llama(tmp_path / "here.gguf").read_bytes()) as hub:
        settings.HF_TOKEN, settings.HF_ENDPOINT = "hf_secret", hub.url
        version = absent("hf://owner/repo/m.gguf")
        fetch_file(version, tmp_path / "models", ignore)
        assert hub.requests[0].headers["authorization"] == "Bearer hf_secret"


def test_fetch_file_of_a_gated_model_says_what_to_do(tmp_path: Path, settings: Any) -> None:
    with file_server(b"") as hub:
        settings.HF_TOKEN, settings.HF_ENDPOINT = "", hub.url
        hub.reply(Reply(status=401, headers={"X-Error-Code": "GatedRepo"}))
        version = absent("hf://owner/repo/m.gguf")
        with pytest.raises(AccessDeniedError):
            fetch_file(version, tmp_path / "models", ignore)
    version.refresh_from_db()
    assert "HF_TOKEN is not set" in version.file_error


def test_capabilities_follow_a_template_that_somebody_sets(tmp_path: Path) -> None:
    version = absent(write_llama(tmp_path / "here.gguf").as_uri())
    fetch_file(version, tmp_path / "models", ignore)
    for template, expected in (
        ("{{ tools }}", ["chat", "completion", "tools"]),
        ("", ["completion"]),
    ):
        version.chat_template = template
        version.save(update_fields=["chat_template"])
        version.refresh_from_db()
        assert version.capabilities == expected
