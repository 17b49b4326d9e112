"""``/api/models/download`` and ``/api/models/downloads``: files of models, fetched as jobs."""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from msgspec import Meta
from rest_framework.request import Request

from inference.api.view import ApiView, body_of, json_response, principal_in
from inference.conf import inference_settings
from inference.database import in_database
from inference.errors import (
    ConflictError,
    InvalidRequestError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
)
from inference.orders.requests import Name
from inference.principal import MODELS_OPERATE, MODELS_READ, Principal
from models_registry.access import ADD_VERSION
from models_registry.catalogue.additions import add_version, is_open_bucket
from models_registry.catalogue.lookup import find_version
from models_registry.errors import LabelError, RegistryError
from models_registry.files import downloads
from models_registry.models import Download, ModelVersion
from models_registry.sources import (
    REMOTE_SCHEMES,
    BadSourceError,
    require_public,
    scheme_of,
)

_FORM: Final = (
    'Send {"model": "…"} for a model that is registered, or {"url": "…", "slug": "…"} for a new '
    "one."
)
SourceUrl = Annotated[str, Meta(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}$")]


class DownloadRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Either a registered version (``model``), or a source and the name to register it under."""

    model: Name | None = None
    url: SourceUrl | None = None
    slug: Name | None = None
    label: Name | None = None
    sha256: Sha256 | None = None


class StartDownload(ApiView):
    required_scope = MODELS_OPERATE

    async def post(self, request: Request) -> HttpResponse:
        """Start a download, or join the running one; answers at once."""
        body = body_of(request, DownloadRequest, inference_settings().max_body_bytes)
        content = await in_database(_start, body, principal_in(request))
        return json_response(content, status=202)


class Downloads(ApiView):
    required_scope = MODELS_READ

    async def get(self, request: Request) -> HttpResponse:
        rows = await in_database(downloads.recent_downloads)
        return json_response({"object": "list", "data": [download_object(row) for row in rows]})


class DownloadDetail(ApiView):
    required_scope = MODELS_OPERATE
    reading_scope = MODELS_READ

    async def get(self, request: Request, download_id: UUID) -> HttpResponse:
        return json_response(download_object(await in_database(found, download_id)))

    async def delete(self, request: Request, download_id: UUID) -> HttpResponse:
        """Cancel it; the bytes received stay for the next try."""
        return json_response(await in_database(_cancel, download_id, principal_in(request)))


class RetryDownload(ApiView):
    required_scope = MODELS_OPERATE

    async def post(self, request: Request, download_id: UUID) -> HttpResponse:
        """Start the download again, from the bytes received."""
        content = await in_database(_retry, download_id, principal_in(request))
        return json_response(content, status=202)


def download_object(download: Download) -> dict[str, Any]:
    """A download for clients; times are seconds since 1970, like OpenAI's."""
    asker, stopper = download.requested_by, download.cancelled_by
    return {
        "id": str(download.pk),
        "object": "model.download",
        "model": download.version.key,
        "state": download.state,
        "phase": download.phase or None,
        "bytes_done": download.done_bytes,
        "bytes_total": download.total_bytes,
        "bytes_per_second": download.bytes_per_second,
        "eta_seconds": download.eta_seconds,
        "error": download.error or None,
        "requested_by": asker.get_username() if asker else None,
        "cancelled_by": stopper.get_username() if stopper else None,
        "created": int(download.requested_at.timestamp()),
        "started": int(download.started_at.timestamp()) if download.started_at else None,
        "finished": int(download.finished_at.timestamp()) if download.finished_at else None,
        "progress_url": f"/api/models/downloads/{download.pk}",
    }


def _start(body: DownloadRequest, principal: Principal) -> dict[str, Any]:
    user = get_user_model().objects.get(pk=principal.user_id)
    if body.url is not None and principal.key_id is None and not user.has_perm(ADD_VERSION):
        raise PermissionDeniedError(
            "You may not register models. Ask an administrator to add this one."
        )
    version = _version(body, user, is_person=principal.key_id is None)
    return download_object(downloads.start_download(version, user))


def _version(body: DownloadRequest, user: Any, *, is_person: bool) -> ModelVersion:
    """The version to download, registered first if it is new.

    ``is_person`` is true for a user with permission to register models, false for a key.
    """
    if body.model is not None:
        if any((body.url, body.slug, body.label, body.sha256)):
            raise InvalidRequestError(f"'model' stands alone. {_FORM}", param="model")
        version = find_version(body.model)
        if version is None:
            raise ModelNotFoundError(
                f"The model {body.model!r} is not registered. {_FORM}", param="model"
            )
        return version
    if body.url is None or body.slug is None:
        missing = "slug" if body.url else "model"
        raise InvalidRequestError(f"{missing!r} is missing. {_FORM}", param=missing)
    slug, label = body.slug.strip(), (body.label or "v1").strip()
    try:
        if scheme_of(body.url) not in REMOTE_SCHEMES:
            raise InvalidRequestError(
                "Files of this machine are registered there: manage.py add_model.", param="url"
            )
        if body.url.startswith(("http:", "https:")) and not settings.SOURCES_ALLOW_PRIVATE:
            require_public(body.url)
        if body.url.startswith("s3:") and not is_person and not is_open_bucket(body.url):
            raise PermissionDeniedError(
                "Keys may name only S3 buckets that a version comes from which was registered in "
                "the admin or with manage.py add_model. Have an administrator register this one.",
                param="url",
            )
        return add_version(
            slug,
            label,
            body.url,
            sha256=body.sha256 or "",
            only_public=True,
            actor=user,
        )
    except BadSourceError as error:
        raise InvalidRequestError(str(error), param="url") from error
    except RegistryError as error:
        version = find_version(f"{slug}@{label}")
        if version is not None:
            return _same(version, body)
        param = "label" if isinstance(error, LabelError) else "slug"
        raise InvalidRequestError(str(error), param=param) from error


def _same(version: ModelVersion, body: DownloadRequest) -> ModelVersion:
    """An existing version. Raises ``ConflictError`` where the request means another file."""
    start = f"{version.key} is registered already, with another"
    if not version.sources.filter(url=body.url).exists():
        raise ConflictError(f"{start} source. Choose another label.", param="label")
    if body.sha256 and body.sha256.lower() != version.sha256:
        raise ConflictError(f"{start} checksum. Choose another label.", param="sha256")
    return version


def found(download_id: UUID) -> Download:
    """Raises ``NotFoundError`` where the download does not exist."""
    download = downloads.find_download(download_id)
    if download is None:
        raise NotFoundError(f"There is no download {download_id}. GET /api/models/downloads.")
    return download


def _cancel(download_id: UUID, principal: Principal) -> dict[str, Any]:
    user = get_user_model().objects.get(pk=principal.user_id)
    return download_object(downloads.cancel_download(found(download_id), user))


def _retry(download_id: UUID, principal: Principal) -> dict[str, Any]:
    user = get_user_model().objects.get(pk=principal.user_id)
    return download_object(downloads.retry_download(found(download_id), user))
