"""``manage.py fetch_model`` and ``add_model``: files brought from a terminal."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from models_registry.files import terminal
from models_registry.models import ModelVersion
from tests.models_registry.file_server import Reply, file_server
from tests.models_registry.fleet_rows import a_version
from tests.models_registry.gguf_samples import write_llama
from tests.waiting import wait_until

# The files are fetched by threads, which see only what is committed.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def models_dir(settings: Any, tmp_path: Path) -> Path:
    settings.INFERENCE = dataclasses.replace(settings.INFERENCE, models_dir=tmp_path / "models")
    return tmp_path / "models"


def absent(name: str, url: str) -> ModelVersion:
    """A version that is not here."""
    version = a_version(file_name=name, file_state=ModelVersion.FileState.ABSENT)
    version.sources.create(url=url)
    return version


def test_fetch_model_brings_several_at_once(tmp_path: Path, models_dir: Path) -> None:
    url = write_llama(tmp_path / "here.gguf").as_uri()
    for name in ("a.gguf", "b.gguf", "c.gguf", "d.gguf"):
        absent(name, url)

    call_command("fetch_model")

    assert {path.name for path in models_dir.glob("*.gguf")} == {
        "a.gguf",
        "b.gguf",
        "c.gguf",
        "d.gguf",
    }
    assert set(ModelVersion.objects.values_list("file_state", flat=True)) == {"ready"}


def test_fetch_model_of_two_versions_with_one_file_fetches_it_once(
    tmp_path: Path, models_dir: Path
) -> None:
    whole = write_llama(tmp_path / "here.gguf").read_bytes()
    with file_server(whole) as server:
        versions = [absent("a.gguf", f"{server.url}/m.gguf") for _ in range(2)]
        # Without a size or checksum whoever comes when it is there fetches it again.
        ModelVersion.objects.update(size_bytes=len(whole))
        call_command("fetch_model", *(version.key for version in versions))
        assert len(server.requests) == 1


def test_fetch_model_fetches_the_others_when_one_fails(tmp_path: Path, models_dir: Path) -> None:
    bad = absent("bad.gguf", (tmp_path / "gone.gguf").as_uri())
    absent("good.gguf", write_llama(tmp_path / "here.gguf").as_uri())

    with pytest.raises(CommandError, match=f"{bad.key}: .*gone.gguf cannot be read"):
        call_command("fetch_model")

    assert (models_dir / "good.gguf").is_file()


def test_fetch_model_without_names_leaves_out_what_has_no_source(models_dir: Path) -> None:
    a_version(file_state=ModelVersion.FileState.ABSENT)
    call_command("fetch_model")


def test_fetch_model_stopped_by_ctrl_c_goes_on_next_time(
    tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_llama(tmp_path / "here.gguf").read_bytes()
    with file_server(whole) as server:
        server.reply(Reply(cut_after=500, holds=True), Reply())
        version = absent("a.gguf", f"{server.url}/m.gguf")

        def press_ctrl_c(_futures: object) -> None:
            part = models_dir / "a.gguf.part"
            wait_until(lambda: server.requests and part.is_file())
            server.release()
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(terminal, "wait", press_ctrl_c)
            with pytest.raises(CommandError) as stopped:
                call_command("fetch_model", version.key)
        assert stopped.value.returncode == 130
        version.refresh_from_db()
        assert version.file_state == "absent"
        call_command("fetch_model", version.key)
    assert (models_dir / "a.gguf").read_bytes() == whole


@pytest.mark.parametrize("names", [["nothing"], ["nothing@v1"]])
def test_fetch_model_of_an_unknown_name_is_refused(names: list[str]) -> None:
    with pytest.raises(CommandError, match="is not registered"):
        call_command("fetch_model", *names)


def test_add_model_registers_a_local_file(tmp_path: Path, models_dir: Path) -> None:
    path = write_llama(tmp_path / "my.gguf")

    call_command("add_model", "mine", str(path), "--no-load", "--kv-cells", "512")

    version = ModelVersion.objects.select_related("model").get()
    assert (version.key, version.model.name) == ("mine@q8_0", "Tiny")
    assert (version.kv_cells, version.is_default, version.file_state) == (512, True, "ready")
    assert (models_dir / version.file_name).read_bytes() == path.read_bytes()


def test_add_model_takes_a_source_url(tmp_path: Path, models_dir: Path) -> None:
    data = write_llama(tmp_path / "my.gguf").read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    with file_server(data) as server:
        call_command("add_model", "mine", f"{server.url}/m.gguf", "--no-load", "--sha256", sha256)

    assert ModelVersion.objects.get().sha256 == sha256


def test_add_model_twice_is_refused(tmp_path: Path, models_dir: Path) -> None:
    path = write_llama(tmp_path / "my.gguf")
    call_command("add_model", "mine", str(path), "--no-load")

    with pytest.raises(CommandError, match="mine@q8_0 is registered already"):
        call_command("add_model", "mine", str(path), "--no-load")


def test_add_model_of_a_damaged_file_registers_nothing(tmp_path: Path, models_dir: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF and nothing else")

    with pytest.raises(CommandError, match=r"bad\.gguf"):
        call_command("add_model", "mine", str(tmp_path / "bad.gguf"), "--no-load")

    assert not ModelVersion.objects.exists()
