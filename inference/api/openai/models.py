"""``GET /v1/models`` and its kin: what there is, and load and unload."""

from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from inference.api.view import ApiView, json_response
from inference.database import in_database
from inference.errors import InvalidRequestError, ModelNotFoundError, TemporaryResourceError
from inference.principal import MODELS_OPERATE, MODELS_READ
from models_registry import services
from models_registry.models import ModelVersion, Replica
from models_registry.selectors import ModelStatus, model_statuses


class Models(ApiView):
    """All models."""

    required_scope = MODELS_READ

    async def get(self, request: Request) -> HttpResponse:
        """List models with what is in memory of them."""
        statuses = await in_database(model_statuses)
        return json_response(
            {
                "object": "list",
                "data": [_model_object(status) for status in statuses],
                "config": None,
                "orchestration_mode": "single",
            }
        )


class ModelDetail(ApiView):
    """One model."""

    required_scope = MODELS_READ

    async def get(self, request: Request, model_id: str) -> HttpResponse:
        """The model, or 404."""
        status = await _status(model_id)
        _version_named(status, model_id)
        return json_response(_model_object(status))


class LoadModel(ApiView):
    """Bring a model into memory."""

    required_scope = MODELS_OPERATE

    async def post(self, request: Request, model_id: str) -> HttpResponse:
        """Want a replica of the version on this node; answers at once with the state."""
        status = await _status(model_id)
        version = _version_named(status, model_id)
        _require_file(version)
        try:
            await in_database(_load, version)
        except services.RegistryError as error:
            raise TemporaryResourceError(
                str(error), code="no_room", retry_after_ms=10_000
            ) from error
        return json_response(_model_object(await _status(model_id)), status=202)


class UnloadModel(ApiView):
    """Take a model out of memory."""

    required_scope = MODELS_OPERATE

    async def post(self, request: Request, model_id: str) -> HttpResponse:
        """Want no replica; what runs on it finishes first."""
        status = await _status(model_id)
        await in_database(services.unload, _version_named(status, model_id))
        return json_response(_model_object(await _status(model_id)), status=202)


async def _status(model_id: str) -> ModelStatus:
    slug = model_id.partition("@")[0]
    # Postgres refuses to compare with a NUL.
    statuses = [] if "\0" in slug else await in_database(model_statuses, slug)
    if not statuses:
        raise ModelNotFoundError(
            f"The model {model_id!r} does not exist. GET /v1/models lists those that do.",
            param="model",
        )
    return statuses[0]


def _version_named(status: ModelStatus, model_id: str) -> ModelVersion:
    label = model_id.partition("@")[2]
    version = status.version
    if label:
        version = next((v for v in status.model.versions.all() if v.label == label), None)
    if version is None:
        raise ModelNotFoundError(f"There is no version {model_id!r}.", param="model")
    return version


def _require_file(version: ModelVersion) -> None:
    if version.file_state != ModelVersion.FileState.READY:
        raise InvalidRequestError(
            f"The file of {version.key} is {version.file_state}. Fetch it first: "
            f"python manage.py fetch_model {version.key}",
            param="model",
            code="model_file_missing",
        )


def _load(version: ModelVersion) -> None:
    wanted = version.replicas.filter(desired=Replica.Desired.RESIDENT).select_related("node")
    for node in [replica.node for replica in wanted] or [services.pick_node()]:
        services.load(version, node)


def _model_object(status: ModelStatus) -> dict[str, Any]:
    version = status.version
    memory = sum(replica.resident_bytes or 0 for replica in status.replicas)
    return {
        "id": status.model.slug,
        "object": "model",
        "created": int(status.model.created_at.timestamp()),
        "owned_by": "brigade",
        "type": status.model.type,
        "status": status.status,
        "memory_mb": memory >> 20 if memory else None,
        "context_length": version.context_length_tokens if version else None,
        "roles": status.model.roles,
        "capabilities": status.model.capabilities,
        "version": version.key if version else None,
        "replicas": [
            {
                "version": replica.version_key,
                "node": replica.node,
                "desired": replica.desired,
                "state": replica.state,
                "progress": replica.load_fraction,
                "reason": replica.reason or None,
                "device": replica.device or None,
            }
            for replica in status.replicas
        ],
    }
