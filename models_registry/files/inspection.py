"""The files of versions: fetched, looked at, and entered into their rows."""

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
_FROM_HEADER: Final = (
    *("architecture", "quantisation", "vocabulary_size", "embedding_dimensions"),
    *("kv_bytes_per_token", "capabilities", "header", "context_length_tokens", "chat_template"),
)
_FACTS: Final = (*_FROM_HEADER, "sha256", "size_bytes", "file_state", "file_error")
# What a row may have become while its file was fetched, which can take hours.
_EDITED: Final = ("context_length_tokens", "chat_template", "file_name", "header", "capabilities")


def fetch_file(version: ModelVersion, models_dir: Path, on_progress: ProgressCallback) -> None:
    """Bring a version's file into the models directory and note what its header says.

    The file is looked at before it takes its place, so that a host never sees one that is damaged
    or hostile. Its checksum is kept in the row: from then on no other file will do. Until then the
    one that was there before serves, and goes on serving where no other comes.

    Args:
        version: whose file; its sources are tried in order.
        models_dir: where to.
        on_progress: see ``ProgressCallback``; what it raises cancels, and leaves the row as it was.

    Raises:
        SourceError: no source gave the file; the reason of each.
        GGUFError: the file is not a usable model.
        RegistryError: the version has no source and no file, or the file's name leads elsewhere,
            or it is no file for this model, or the version was edited or deleted meanwhile.
    """
    destination = path_below(models_dir, version.file_name)
    sources = list(version.sources.all())
    if not sources and not destination.is_file():
        raise RegistryError(
            f"{version.key} has no source, and {destination} does not exist. "
            "Put the file there or add a source."
        )
    # One that was changed since it came may be damaged: then only what comes now will do.
    serving = checksum.noted(destination) if version.file_state == _State.READY else None
    if version.file_state != _State.READY:
        version.file_state = _State.FETCHING
        # The reason of an earlier failure stays in the row: see release_file.
        ModelVersion.objects.filter(pk=version.pk).update(file_state=_State.FETCHING)
    try:
        # A file that somebody put there is its own source: checked, but not fetched.
        fetched = _from_first(
            sources or [Source(url=destination.as_uri())], version, destination, on_progress
        )
        _enter(version, destination, fetched.sha256)
    except (SourceError, GGUFError, RegistryError) as error:
        is_untouched = serving is not None and checksum.noted(destination) == serving
        if not (is_untouched and _is_model(destination)):
            note_failure(version, str(error))
        raise
    except BaseException:  # a cancel or Ctrl-C is no failure of the file
        release_file(version)
        raise


def note_failure(version: ModelVersion, error: str) -> None:
    """Note why the file did not come, unless the row is no longer as ``version`` has it.

    Another fetch may have ended since.
    """
    rows = ModelVersion.objects.filter(pk=version.pk, file_state=version.file_state)
    rows.update(file_state=_State.FAILED, file_error=error)
    version.file_state, version.file_error = _State.FAILED, error


@transaction.atomic
def release_file(version: ModelVersion) -> None:
    """Put back the state from before a fetch that ended early, unless another is under way."""
    rows = ModelVersion.objects.select_for_update().filter(pk=version.pk)
    row = rows.filter(file_state=_State.FETCHING).first()
    if row is None or row.downloads.filter(state__in=ACTIVE).exists():
        return
    state = _State.FAILED if row.file_error else _State.ABSENT
    rows.update(file_state=state)
    version.file_state, version.file_error = state, row.file_error


@transaction.atomic
def forget_file(version: ModelVersion, edited: Collection[str]) -> None:
    """Let go of what is known of a version's file where its row names another one now.

    Nothing loads it then before it is fetched, or looked at where it is. A checksum that was taken
    out names no other file: what is there serves until another has come.

    Args:
        version: as it was saved.
        edited: names of the fields that were changed.
    """
    has_other_sha256 = "sha256" in edited and version.sha256
    if "file_name" not in edited and not has_other_sha256:
        return
    row = ModelVersion.objects.select_for_update().get(pk=version.pk)
    if row.model_follows_file:
        row.model.capabilities = []
        row.model.save(update_fields=["capabilities"])
    said = row.header or {}
    if _is_from_header(row.chat_template, said):
        row.chat_template = ""
    if row.context_length_tokens == said.get("context_length"):
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
    """The file from the first source that has it."""
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
                # Nothing tells whether the file that is there is the one that the source has.
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
def _enter(version: ModelVersion, path: Path, sha256: str) -> None:
    """Enter a file that has come, unless the row was made to name another one meanwhile."""
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
    """Read the header of a version's file into its row, which is added if it is new.

    Template and context length are taken over where nobody set others than the file had before.
    The type and capabilities of a model without others are those of its one file.

    Raises:
        GGUFError: the file is not a usable model.
        RegistryError: it is no file for this model, or the version was deleted meanwhile.
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
    is_all, said = version.model_follows_file, version.header
    _take_over(version, header)
    version.file_state, version.file_error = _State.READY, ""
    version.save(update_fields=None if is_new else _FACTS)
    if said is not None and said != version.header:
        version.footprints.all().delete()  # measured with another file
    if is_all:
        _complete_model(version, header)


def _take_over(version: ModelVersion, header: GGUFHeader) -> None:
    """Set the fields that the header tells, edited ones excepted."""
    said = version.header or {}
    version.architecture = header.architecture
    version.quantisation = header.quantisation
    version.vocabulary_size = header.vocab_size
    version.embedding_dimensions = header.embedding_length or None
    version.kv_bytes_per_token = header.kv_bytes_per_token()
    version.size_bytes = header.file_bytes
    version.header = header_facts(header)
    if version.context_length_tokens in (None, said.get("context_length")):
        version.context_length_tokens = header.context_length or None
    if not version.chat_template or _is_from_header(version.chat_template, said):
        version.chat_template = header.chat_template or ""
    version.capabilities = capabilities_of(
        is_embedding=header.is_embedding,
        chat_template=version.chat_template,
        knows_fim=header.knows_fim,
    )


def _is_from_header(template: str, said: Mapping[str, Any]) -> bool:
    """Whether a template is the one of the file whose header says this."""
    return template_sha256(template) == said.get(TEMPLATE_SHA256)


def _require_kind(version: ModelVersion, header: GGUFHeader) -> None:
    """Raise ``RegistryError`` where a file embeds texts and its model does not, or the reverse."""
    model_type = version.model.type
    if model_type not in _DOES or model_type == _kind(header) or version.model_follows_file:
        return
    raise RegistryError(
        f"The file of {version.key} is made to {_DOES[_kind(header)]}, but {version.model} is "
        f"there to {_DOES[model_type]}. Register it as a model of its own."
    )


_DOES: Final[dict[str, str]] = {
    Model.Type.EMBEDDING: "embed texts",
    Model.Type.TEXT_GENERATION: "continue texts",
}


def _kind(header: GGUFHeader) -> str:
    return Model.Type.EMBEDDING if header.is_embedding else Model.Type.TEXT_GENERATION


def _complete_model(version: ModelVersion, header: GGUFHeader) -> None:
    """Give a model that is nothing but this file its type and capabilities."""
    model = version.model
    model.capabilities = version.capabilities
    if model.type in _DOES:
        model.type = _kind(header)
    model.save(update_fields=["capabilities", "type"])
