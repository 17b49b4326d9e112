"""Fetch files of versions, read their headers, and save the facts in the rows."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from models_registry.errors import RegistryError
from models_registry.gguf.kept import TEMPLATE_SHA256, header_facts, template_sha256
from models_registry.gguf.reader import GGUFError, GGUFHeader, read_header
from models_registry.models import ACTIVE, Model, ModelVersion, Source
from models_registry.rules.capabilities import capabilities_of
from models_registry.rules.names import path_below
from models_registry.sources import (
    Access,
    FetchedFile,
    ProgressCallback,
    SourceError,
    checksum,
    fetch,
)

_State: Final = ModelVersion.FileState
_FACTS: Final = (
    *("architecture", "quantisation", "vocabulary_size", "embedding_dimensions"),
    *("kv_bytes_per_token", "capabilities", "header", "context_length_tokens", "chat_template"),
    *("sha256", "size_bytes", "file_state", "file_error"),
)
# Fields that may be edited while the file is fetched, which can take hours.
_EDITED: Final = ("context_length_tokens", "chat_template", "file_name", "header", "capabilities")


def fetch_file(version: ModelVersion, models_dir: Path, on_progress: ProgressCallback) -> None:
    """Fetch a version's file from the first source that has it, and save the facts of its header.

    The header is checked before the file is moved into place, and its checksum is saved: later
    fetches accept no other file. A previous file serves until then, and after a failed fetch. An
    exception of ``on_progress`` cancels the fetch; the row stays as it was.

    Raises:
        SourceError: every source failed; has the reason of each.
        GGUFError, RegistryError: as ``inspect_file``; also no source, a bad file name or an edit.
    """
    destination = path_below(models_dir, version.file_name)
    sources = list(version.sources.all())
    if not sources and not destination.is_file():
        raise RegistryError(
            f"{version.key} has no source, and {destination} does not exist. "
            "Put the file there or add a source."
        )
    is_ready = version.file_state == _State.READY
    # None for a file that was changed since it was fetched, which may be damaged.
    old_sha256 = checksum.noted_sha256(destination) if is_ready else None
    if not is_ready:
        version.file_state = _State.FETCHING
        # The row keeps the error of an earlier fetch for release_file.
        ModelVersion.objects.filter(pk=version.pk).update(file_state=_State.FETCHING)
    try:
        # Without a source, the present file is its own source: it is only checked.
        fetched = _from_first(
            sources or [Source(url=destination.as_uri())], version, destination, on_progress
        )
        _save_fetched(version, destination, fetched.sha256)
    except (SourceError, GGUFError, RegistryError) as error:
        is_untouched = old_sha256 and checksum.noted_sha256(destination) == old_sha256
        if not (is_untouched and _is_model(destination)):
            note_failure(version, str(error))
        raise
    except BaseException:  # a cancel or Ctrl-C
        release_file(version)
        raise


def note_failure(version: ModelVersion, error: str) -> None:
    """Save the error of a fetch, unless another fetch has changed the state of the row."""
    rows = ModelVersion.objects.filter(pk=version.pk, file_state=version.file_state)
    rows.update(file_state=_State.FAILED, file_error=error)
    version.file_state, version.file_error = _State.FAILED, error


@transaction.atomic
def release_file(version: ModelVersion) -> None:
    """Reset the state after a cancelled fetch, unless another download is active."""
    rows = ModelVersion.objects.select_for_update().filter(pk=version.pk)
    row = rows.filter(file_state=_State.FETCHING).first()
    if row is None or row.downloads.filter(state__in=ACTIVE).exists():
        return
    state = _State.FAILED if row.file_error else _State.ABSENT
    rows.update(file_state=state)
    version.file_state, version.file_error = state, row.file_error


@transaction.atomic
def forget_file(version: ModelVersion, edited: Collection[str]) -> None:
    """Clear the facts of the old file if ``edited`` fields of a saved version name another file.

    The version is then not loaded until its file is fetched or inspected. Removing the checksum
    names no other file.
    """
    has_other_sha256 = "sha256" in edited and version.sha256
    if "file_name" not in edited and not has_other_sha256:
        return
    row = ModelVersion.objects.select_for_update().get(pk=version.pk)
    if row.model_follows_file:
        row.model.capabilities = []
        row.model.save(update_fields=["capabilities"])
    old_facts = row.header or {}
    if _is_from_header(row.chat_template, old_facts):
        row.chat_template = ""
    if row.context_length_tokens == old_facts.get("context_length"):
        row.context_length_tokens = None
    row.architecture = row.quantisation = ""
    row.vocabulary_size = row.embedding_dimensions = row.kv_bytes_per_token = row.header = None
    row.capabilities = []
    if has_other_sha256 and "size_bytes" not in edited:
        row.size_bytes = None
    if row.file_state != _State.FETCHING:
        row.file_state, row.file_error = _State.ABSENT, ""
    row.save(update_fields=_FACTS)
    row.footprints.all().delete()
    version.refresh_from_db(fields=_FACTS)


def _from_first(
    sources: list[Source], version: ModelVersion, destination: Path, on_progress: ProgressCallback
) -> FetchedFile:
    reasons: list[str] = []
    for source in sources:
        only_public = source.only_public and not settings.SOURCES_ALLOW_PRIVATE
        try:
            return fetch(
                source.url,
                destination,
                version.sha256 or None,
                on_progress,
                size_bytes=version.size_bytes,
                access=Access(settings.HF_TOKEN, settings.HF_ENDPOINT, only_public),
                accept=lambda path: _require_kind(version, read_header(path)),
                # Without checksum and size, a present file may differ from that of the source.
                keep_present=source.pk is None or bool(version.sha256 or version.size_bytes),
            )
        except (SourceError, GGUFError, RegistryError) as error:
            if len(sources) == 1:
                raise
            reasons.append(str(error))
    raise SourceError(f"None of the {len(sources)} sources gave the file. " + " ".join(reasons))


def _is_model(path: Path) -> bool:
    try:
        read_header(path)
    except GGUFError:
        return False
    return True


@transaction.atomic
def _save_fetched(version: ModelVersion, path: Path, sha256: str) -> None:
    """Save the facts of a fetched file, unless its row was edited to name another file."""
    asked_for = (version.file_name, version.sha256)
    row = ModelVersion.objects.select_for_update().filter(pk=version.pk)
    now = row.values_list("file_name", "sha256").first()
    if now not in (None, asked_for, (version.file_name, sha256)):
        raise RegistryError(
            f"File name or checksum of {version.key} were edited while its file was fetched. "
            "Download it again."
        )
    version.sha256 = sha256
    inspect_file(version, path)


@transaction.atomic
def inspect_file(version: ModelVersion, path: Path) -> None:
    """Read the header of a version's file and save the version, which may be new.

    Edited chat templates and context lengths are kept. A model with this version alone gets its
    type and capabilities. Raises ``GGUFError``, and ``RegistryError`` for a file of another kind
    of model or a version that was deleted meanwhile.
    """
    header = read_header(path)
    is_new = version.pk is None
    if not is_new:
        rows = ModelVersion.objects.select_for_update()
        try:
            version.refresh_from_db(fields=_EDITED, from_queryset=rows)
            version.model.refresh_from_db(fields=["type", "capabilities"])
        except (ModelVersion.DoesNotExist, Model.DoesNotExist):
            raise RegistryError(f"{version.key} was deleted meanwhile.") from None
    _require_kind(version, header)
    is_all, old_facts = version.model_follows_file, version.header
    _set_facts(version, header)
    version.file_state, version.file_error = _State.READY, ""
    version.save(update_fields=None if is_new else _FACTS)
    if old_facts is not None and old_facts != version.header:
        version.footprints.all().delete()  # measured with another file
    if is_all:
        model = version.model
        model.capabilities = version.capabilities
        if model.type in _DOES:
            model.type = _kind(header)
        model.save(update_fields=["capabilities", "type"])


def _set_facts(version: ModelVersion, header: GGUFHeader) -> None:
    old_facts = version.header or {}
    version.architecture = header.architecture
    version.quantisation = header.quantisation
    version.vocabulary_size = header.vocab_size
    version.embedding_dimensions = header.embedding_length or None
    version.kv_bytes_per_token = header.kv_bytes_per_token()
    version.size_bytes = header.file_bytes
    version.header = header_facts(header)
    if version.context_length_tokens in (None, old_facts.get("context_length")):
        version.context_length_tokens = header.context_length or None
    if not version.chat_template or _is_from_header(version.chat_template, old_facts):
        version.chat_template = header.chat_template or ""
    version.capabilities = capabilities_of(
        is_embedding=header.is_embedding,
        chat_template=version.chat_template,
        knows_fim=header.knows_fim,
    )


def _is_from_header(template: str, facts: Mapping[str, Any]) -> bool:
    return template_sha256(template) == facts.get(TEMPLATE_SHA256)


def _require_kind(version: ModelVersion, header: GGUFHeader) -> None:
    """Raise ``RegistryError`` if either the file or its model embeds texts, but not both."""
    model_type = version.model.type
    if model_type not in _DOES or model_type == _kind(header) or version.model_follows_file:
        return
    raise RegistryError(
        f"The file of {version.key} is a model to {_DOES[_kind(header)]}, but {version.model} is "
        f"registered to {_DOES[model_type]}. Register the file as a model of its own."
    )


_DOES: Final[dict[str, str]] = {
    Model.Type.EMBEDDING: "embed texts",
    Model.Type.TEXT_GENERATION: "generate texts",
}


def _kind(header: GGUFHeader) -> str:
    return Model.Type.EMBEDDING if header.is_embedding else Model.Type.TEXT_GENERATION
