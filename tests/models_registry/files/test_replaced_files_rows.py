"""Another file in the place of one that was looked at: what its row takes over, and what not."""

import os
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from models_registry.errors import RegistryError
from models_registry.files.checks import require_checked
from models_registry.files.inspection import fetch_file, forget_file, inspect_file
from models_registry.fleet.footprints import note_footprint
from models_registry.fleet.views import Demand, Wishes
from models_registry.gguf.kept import TEMPLATE_SHA256
from models_registry.models import Footprint, Model, ModelVersion
from models_registry.sources import checksum
from tests.models_registry import gguf_samples
from tests.models_registry.fleet_rows import NOWHERE, a_version, views
from tests.models_registry.gguf_samples import TEMPLATE, write_llama

pytestmark = pytest.mark.django_db
State = ModelVersion.FileState
NEW_TEMPLATE = "{{ messages[0].content }}{{ tools }}"


def ignore(*_: object) -> None:
    """Progress that nobody looks at."""


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def version(tmp_path: Path, models_dir: Path) -> ModelVersion:
    """A version whose file was fetched."""
    version = a_version(file_state=State.ABSENT, header=None)
    version.sources.create(url=write_llama(tmp_path / "here.gguf").as_uri())
    fetch_file(version, models_dir, ignore)
    return version


def fetch_other(version: ModelVersion, models_dir: Path, **overrides: Any) -> ModelVersion:
    """Have the publisher replace the file, and take it over as the manual says."""
    write_llama(models_dir.parent / "here.gguf", **overrides)
    ModelVersion.objects.filter(pk=version.pk).update(sha256="", size_bytes=None)
    version = ModelVersion.objects.get(pk=version.pk)
    fetch_file(version, models_dir, ignore)
    return ModelVersion.objects.select_related("model").get(pk=version.pk)


def without_template_sha256(header: dict[str, Any]) -> dict[str, Any]:
    """A header as a release kept it that did not know its template again."""
    return {name: value for name, value in header.items() if name != TEMPLATE_SHA256}


@pytest.fixture
def corrected(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How the publisher corrects the file."""
    monkeypatch.setattr(gguf_samples, "TEMPLATE", NEW_TEMPLATE)
    monkeypatch.setattr(gguf_samples, "CONTEXT_LENGTH", 128)
    return {}


def test_replaced_file_brings_its_template_and_context(
    version: ModelVersion, models_dir: Path, corrected: dict[str, Any]
) -> None:
    assert (version.chat_template, version.context_length_tokens) == (TEMPLATE, 64)
    new = fetch_other(version, models_dir)
    assert (new.chat_template, new.context_length_tokens) == (NEW_TEMPLATE, 128)
    assert new.capabilities == new.model.capabilities == ["chat", "completion", "tools"]


def test_replaced_file_leaves_what_somebody_edited(
    version: ModelVersion, models_dir: Path, corrected: dict[str, Any]
) -> None:
    ModelVersion.objects.update(chat_template="mine", context_length_tokens=32)
    Model.objects.update(capabilities=["chat"])
    new = fetch_other(version, models_dir)
    assert (new.chat_template, new.context_length_tokens) == ("mine", 32)
    assert new.model.capabilities == ["chat"]


@pytest.mark.parametrize(("template", "expected"), [(TEMPLATE, NEW_TEMPLATE), ("mine", "mine")])
def test_replaced_file_of_an_older_release_brings_its_template_unless_it_was_edited(
    version: ModelVersion,
    models_dir: Path,
    corrected: dict[str, Any],
    template: str,
    expected: str,
) -> None:
    ModelVersion.objects.update(
        header=without_template_sha256(version.header), chat_template=template
    )
    views(Wishes(), models_dir=models_dir)  # the controller's first look
    new = fetch_other(version, models_dir)
    assert new.chat_template == expected


def test_header_of_an_older_release_is_read_once_and_only_where_the_file_is(
    version: ModelVersion, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ModelVersion.objects.update(header=without_template_sha256(version.header))
    with CaptureQueriesContext(connection) as elsewhere:
        views(Wishes(), models_dir=NOWHERE)
    assert not any('"chat_template"' in query["sql"] for query in elsewhere)
    views(Wishes(), models_dir=models_dir)
    assert ModelVersion.objects.get().header == version.header
    monkeypatch.setattr(
        "models_registry.files.inspection.read_header", lambda _: pytest.fail("read")
    )
    views(Wishes({version.key: Demand(queued=1)}), models_dir=models_dir)


def test_replaced_file_has_nothing_measured(version: ModelVersion, models_dir: Path) -> None:
    note_footprint(version, "cpu", 1)
    inspect_file(version, models_dir / version.file_name)
    assert Footprint.objects.exists()
    fetch_other(version, models_dir, **{"llama.attention.sliding_window": 8})
    assert not Footprint.objects.exists()


@pytest.mark.parametrize("edited", [{"file_name": "b.gguf"}, {"sha256": "0" * 64}])
def test_row_that_names_another_file_forgets_the_old_one(
    version: ModelVersion, edited: dict[str, Any]
) -> None:
    note_footprint(version, "cpu", 1)
    ModelVersion.objects.update(**edited)
    version.refresh_from_db()
    forget_file(version, set(edited))
    row = ModelVersion.objects.get()
    assert (row.file_state, row.header, row.architecture) == (State.ABSENT, None, "")
    assert (row.chat_template, row.context_length_tokens, row.capabilities) == ("", None, [])
    assert (row.size_bytes is None) == ("sha256" in edited)
    assert not Footprint.objects.exists()


def test_model_is_what_the_other_file_makes_of_it(
    version: ModelVersion, models_dir: Path, tmp_path: Path
) -> None:
    version.file_name = "b.gguf"
    version.save()
    forget_file(version, {"file_name"})
    version = fetch_other(version, models_dir, **{"llama.pooling_type": 1})
    assert (version.model.type, version.model.capabilities) == ("embedding", ["embedding"])


def test_model_of_one_file_is_still_that_after_its_template_was_edited(
    version: ModelVersion, models_dir: Path
) -> None:
    version.chat_template = NEW_TEMPLATE
    version.save()
    version = ModelVersion.objects.select_related("model").get()
    assert version.model.capabilities == version.capabilities == ["chat", "completion", "tools"]
    version = fetch_other(version, models_dir, **{"llama.pooling_type": 1})
    assert (version.model.type, version.model.capabilities) == ("embedding", ["embedding"])


def test_model_that_somebody_described_does_not_follow_a_template(version: ModelVersion) -> None:
    Model.objects.update(capabilities=["chat"])
    version = ModelVersion.objects.get()
    version.chat_template = NEW_TEMPLATE
    version.save(update_fields=["chat_template"])
    assert ModelVersion.objects.get().model.capabilities == ["chat"]


def test_row_that_names_another_file_keeps_what_somebody_edited(version: ModelVersion) -> None:
    ModelVersion.objects.update(chat_template="mine", context_length_tokens=32, sha256="0" * 64)
    version.refresh_from_db()
    forget_file(version, {"sha256"})
    row = ModelVersion.objects.get()
    assert (row.chat_template, row.context_length_tokens) == ("mine", 32)


@pytest.mark.parametrize("edited", [{"sha256": ""}, {"kv_cells": 512}])
def test_row_that_names_no_other_file_goes_on_serving(
    version: ModelVersion, edited: dict[str, Any]
) -> None:
    ModelVersion.objects.update(**edited)
    version.refresh_from_db()
    forget_file(version, set(edited))
    row = ModelVersion.objects.get()
    assert (row.file_state, row.architecture) == (State.READY, "llama")


def test_row_that_is_edited_while_its_file_is_fetched_is_not_overwritten(
    version: ModelVersion, models_dir: Path
) -> None:
    (models_dir / "a.gguf").unlink()

    def edit(*_: object) -> None:
        ModelVersion.objects.update(sha256="0" * 64)

    with pytest.raises(RegistryError, match="edited while its file was fetched"):
        fetch_file(version, models_dir, edit)
    assert ModelVersion.objects.get().sha256 == "0" * 64
    assert ModelVersion.objects.get().file_state == State.FAILED


@pytest.mark.parametrize("pooling", [{}, {"llama.pooling_type": 1}])
def test_file_of_another_kind_than_its_model_never_takes_its_place(
    tmp_path: Path, models_dir: Path, pooling: dict[str, Any]
) -> None:
    first = a_version(file_state=State.ABSENT, header=None)
    kinds = [pooling, {} if pooling else {"llama.pooling_type": 1}]
    second = a_version("v2", first.model, file_state=State.ABSENT, header=None)
    for version, kind in zip((first, second), kinds, strict=True):
        path = write_llama(tmp_path / f"{version.label}.gguf", **kind)
        version.sources.create(url=path.as_uri())
    fetch_file(first, models_dir, ignore)

    with pytest.raises(RegistryError, match=r"is a model to .* texts, but .* is registered to"):
        fetch_file(second, models_dir, ignore)

    assert not (models_dir / second.file_name).exists()
    second.refresh_from_db()
    assert (second.file_state, second.model.type == "embedding") == (State.FAILED, bool(pooling))


def test_file_as_it_was_checked_is_neither_read_nor_hashed(
    version: ModelVersion, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models_registry.files.checks.read_header", lambda _: pytest.fail("read"))
    require_checked(version, models_dir / "a.gguf", ignore)


def test_copy_of_a_checked_file_is_hashed_once(version: ModelVersion, models_dir: Path) -> None:
    path = models_dir / "a.gguf"
    os.utime(path, (1, 1))
    phases: list[object] = []
    for _ in range(2):
        require_checked(version, path, lambda *progress: phases.append(progress[2]))
    assert phases == ["verifying"]


@pytest.mark.parametrize("is_pinned", [True, False])
def test_file_that_was_changed_is_refused(
    version: ModelVersion, models_dir: Path, is_pinned: bool
) -> None:
    if not is_pinned:
        version.sha256 = ""
    path = models_dir / "a.gguf"
    write_llama(path, **{"llama.attention.sliding_window": 8})
    with pytest.raises(RegistryError, match=f"another file .* fetch_model {version.key}"):
        require_checked(version, path, ignore)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RegistryError, match=r"changed since it was checked.*truncated"):
        require_checked(version, path, ignore)
    path.unlink()
    with pytest.raises(RegistryError, match=r"a\.gguf does not exist on this machine"):
        require_checked(version, path, ignore)


def test_changed_weights_are_refused_though_size_and_header_are_the_same(
    version: ModelVersion, models_dir: Path
) -> None:
    path = models_dir / "a.gguf"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(RegistryError, match="another file"):
        require_checked(version, path, ignore)
    assert checksum.noted_sha256(path) is None  # a fetch is not to take it for one that serves


def test_file_without_a_note_that_cannot_be_written_is_still_checked(
    version: ModelVersion, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    path = models_dir / "a.gguf"
    checksum.note_path(path).unlink()
    monkeypatch.setattr(checksum, "write_note", refuse)
    require_checked(version, path, ignore)
