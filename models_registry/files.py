"""The files of versions: fetched, looked at, and entered into their rows."""

from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import transaction

from models_registry.capabilities import capabilities_of
from models_registry.errors import RegistryError
from models_registry.footprints import header_facts
from models_registry.gguf import GGUFError, GGUFHeader, read_header
from models_registry.models import Model, ModelVersion, Source
from models_registry.names import path_below
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
    *("sha256", "size_bytes", "file_state", "file_error", "architecture", "quantisation"),
    *("vocabulary_size", "embedding_dimensions", "kv_bytes_per_token", "capabilities", "header"),
    *("context_length_tokens", "chat_template"),
)
_EDITABLE_FACTS: Final = ("context_length_tokens", "chat_template")


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
            or the version was deleted meanwhile.
    """
    destination = path_below(models_dir, version.file_name)
    sources = list(version.sources.all())
    if not sources and not destination.is_file():
        raise RegistryError(
            f"{version.key} has no source, and {destination} does not exist. "
            "Put the file there or add a source."
        )
    before = version.file_state
    # One that was changed since it came may be damaged: then only what comes now will do.
    is_untouched = before == _State.READY and checksum.noted(destination) is not None
    if before != _State.READY:
        _set_file_state(version, _State.FETCHING)
    try:
        # A file that somebody put there is its own source: checked, but not fetched.
        fetched = _from_first(
            sources or [Source(url=destination.as_uri())], version, destination, on_progress
        )
        version.sha256 = fetched.sha256
        inspect_file(version, destination)
    except (SourceError, GGUFError, RegistryError) as error:
        if not (is_untouched and _is_model(destination)):
            _set_file_state(version, _State.FAILED, str(error))
        raise
    except BaseException:  # a cancel or Ctrl-C is no failure of the file
        _set_file_state(version, _State.ABSENT if before == _State.FETCHING else before)
        raise


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
                accept=read_header,
                # Nothing tells whether the file that is there is the one that the source has.
                keep_present=source.pk is None or bool(version.sha256 or version.size_bytes),
            )
        except (SourceError, GGUFError) as error:
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
def inspect_file(version: ModelVersion, path: Path) -> None:
    """Read the header of a version's file into its row, which is added if it is new.

    Template and context length are taken over where nobody set them. The type and capabilities
    of a model without others are those of its one file.

    Raises:
        GGUFError: the file is not a usable model.
        RegistryError: the version was deleted meanwhile.
    """
    header = read_header(path)
    is_new = version.pk is None
    if not is_new:
        # A download takes hours: what was edited meanwhile stays.
        rows = ModelVersion.objects.select_for_update()
        try:
            version.refresh_from_db(fields=_EDITABLE_FACTS, from_queryset=rows)
        except ModelVersion.DoesNotExist:
            raise RegistryError(f"{version.key} was deleted meanwhile.") from None
    is_first_look = not version.architecture
    version.architecture = header.architecture
    version.quantisation = header.quantisation
    version.vocabulary_size = header.vocab_size
    version.embedding_dimensions = header.embedding_length or None
    version.kv_bytes_per_token = header.kv_bytes_per_token()
    version.size_bytes = header.file_bytes
    version.header = header_facts(header)
    if version.context_length_tokens is None:
        version.context_length_tokens = header.context_length or None
    if not version.chat_template:
        version.chat_template = header.chat_template or ""
    version.capabilities = capabilities_of(
        is_embedding=header.is_embedding,
        chat_template=version.chat_template,
        knows_fim=header.knows_fim,
    )
    version.file_state, version.file_error = _State.READY, ""
    version.save(update_fields=None if is_new else _FACTS)
    if is_first_look:
        _complete_model(version, header)


def _complete_model(version: ModelVersion, header: GGUFHeader) -> None:
    """Give a model that is nothing but this file its type and capabilities."""
    if not version.is_all_of_its_model:
        return
    model = version.model
    model.capabilities = version.capabilities
    model.type = Model.Type.EMBEDDING if header.is_embedding else Model.Type.TEXT_GENERATION
    model.save(update_fields=["capabilities", "type"])


def _set_file_state(version: ModelVersion, state: str, error: str = "") -> None:
    """Note it; one that was deleted meanwhile has none."""
    version.file_state, version.file_error = state, error
    rows = ModelVersion.objects.filter(pk=version.pk)
    rows.update(file_state=state, file_error=error)
