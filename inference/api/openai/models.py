"""``GET /v1/models`` and its kin: what there is, and load and unload."""

from typing import Any

import msgspec
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from rest_framework.request import Request

from inference.api.view import ApiView, json_response, principal_in
from inference.conf import inference_settings
from inference.database import in_database
from inference.errors import (
    DoesNotFitError,
    InvalidRequestError,
    ModelNotFoundError,
    TemporaryResourceError,
)
from inference.orders.requests import ChatRequest, CompletionRequest, EmbeddingsRequest
from inference.orders.resolution import missing_file
from inference.orders.template_variables import TEMPLATE_VARIABLES
from inference.principal import MODELS_OPERATE, MODELS_READ, Principal
from models_registry.catalogue.routing import runnable_presets
from models_registry.catalogue.status import ModelStatus, model_statuses
from models_registry.errors import NeverFitsError, RegistryError
from models_registry.fleet import desired
from models_registry.fleet.nodes import answering, pick_node
from models_registry.fleet.preloading import configured_preset
from models_registry.models import Model, ModelVersion, Preset, Replica
from models_registry.rules.chat_templates import variables_of_template


class Models(ApiView):
    required_scope = MODELS_READ

    async def get(self, request: Request) -> HttpResponse:
        return json_response(await in_database(_listed))


class ModelDetail(ApiView):
    required_scope = MODELS_READ

    async def get(self, request: Request, model_id: str) -> HttpResponse:
        """The model; with a label, that version of it."""
        return json_response(await _named_object(model_id))


class LoadModel(ApiView):
    required_scope = MODELS_OPERATE

    async def post(self, request: Request, model_id: str) -> HttpResponse:
        """Ask for a replica where there is room; answers at once with the state."""
        status = await status_of(model_id)
        version = version_named(status, model_id)
        if version.file_state != ModelVersion.FileState.READY:
            raise missing_file(version.key, version.file_state)
        try:
            await in_database(_load, version, principal_in(request))
        except NeverFitsError as error:
            raise DoesNotFitError(str(error), param="model") from error
        except RegistryError as error:
            raise TemporaryResourceError(
                str(error), code="no_node", retry_after_ms=10_000
            ) from error
        return json_response(await _named_object(model_id), status=202)


class UnloadModel(ApiView):
    required_scope = MODELS_OPERATE

    async def post(self, request: Request, model_id: str) -> HttpResponse:
        """Ask for no replica; running requests finish first."""
        status = await status_of(model_id)
        try:
            await in_database(_unload, version_named(status, model_id), principal_in(request))
        except RegistryError as error:
            raise InvalidRequestError(str(error), param="model", code="model_is_kept") from error
        return json_response(await _named_object(model_id), status=202)


async def status_of(model_id: str) -> ModelStatus:
    """The model that a model id or version id names.

    Raises:
        ModelNotFoundError: it does not exist.
    """
    slug = model_id.partition("@")[0]
    # Postgres refuses to compare with a NUL.
    statuses = [] if "\0" in slug else await in_database(model_statuses, slug)
    if not statuses:
        raise ModelNotFoundError(
            f"The model {model_id!r} does not exist. GET /v1/models lists those that do.",
            param="model",
        )
    return statuses[0]


def version_named(status: ModelStatus, model_id: str) -> ModelVersion:
    """The version with the label in ``model_id``, or the default version.

    Raises:
        ModelNotFoundError: it does not exist.
    """
    label = model_id.partition("@")[2]
    version = status.version
    if label:
        version = next((v for v in status.model.versions.all() if v.label == label), None)
    if version is None:
        raise ModelNotFoundError(f"There is no version {model_id!r}.", param="model")
    return version


def _listed() -> dict[str, Any]:
    settings = inference_settings()
    preset = configured_preset(settings.preload_models, settings.config_preset)
    return {
        "object": "list",
        "data": [
            *(_model_object(status, status.model.slug) for status in model_statuses()),
            *map(_preset_object, runnable_presets()),
        ],
        "config": preset.name if preset else None,
        "orchestration_mode": preset.orchestration_mode if preset else "single",
    }


def _preset_object(preset: Preset) -> dict[str, Any]:
    return {
        "id": preset.name,
        "object": "model",
        "name": preset.title or preset.name,
        "created": int(preset.created_at.timestamp()),
        "owned_by": "brigade-preset",
        "type": Model.Type.TEXT_GENERATION,
        "orchestration_mode": preset.orchestration_mode,
        "members": [f"{row.model.slug} {row.role}" for row in preset.members.all()],
    }


async def _named_object(model_id: str) -> dict[str, Any]:
    status = await status_of(model_id)
    version = version_named(status, model_id)
    if not model_id.partition("@")[2]:
        return _model_object(status, status.model.slug)
    return _model_object(status.of(version), f"{status.model.slug}@{version.label}")


def _unload(version: ModelVersion, principal: Principal) -> None:
    desired.unload(version, _actor(principal))


def _actor(principal: Principal) -> Any:
    return get_user_model().objects.get(pk=principal.user_id)


def _load(version: ModelVersion, principal: Principal) -> None:
    wanted = version.replicas.filter(desired=Replica.Desired.RESIDENT).select_related("node")
    for node in answering(replica.node for replica in wanted) or [pick_node(version)]:
        desired.load(version, node, _actor(principal))


def _supported_parameters(status: ModelStatus) -> list[str]:
    """Parameters that requests may carry besides the model and the prompt."""
    kind: type[msgspec.Struct] = CompletionRequest
    if status.model.type == Model.Type.EMBEDDING:
        kind = EmbeddingsRequest
    elif "chat" in status.capabilities or (status.version and status.version.chat_template):
        kind = ChatRequest
    names = {*kind.__struct_fields__} - {"model", "messages", "prompt", "input"}
    template = status.version.chat_template if status.version else ""
    return sorted(names - (TEMPLATE_VARIABLES - variables_of_template(template)))


def _model_object(status: ModelStatus, name: str) -> dict[str, Any]:
    """A model or one of its versions for clients; requests send ``name``."""
    version = status.version
    memory = sum(replica.memory_bytes for replica in status.replicas)
    if version is not None and not memory:
        # What it would take, as far as that is known before it is loaded.
        memory = version.documented_memory_bytes or version.size_bytes or 0
    return {
        "id": name,
        "object": "model",
        "name": status.model.name,
        "created": int(status.model.created_at.timestamp()),
        "owned_by": "brigade",
        "type": status.model.type,
        "status": status.status,
        "memory_mb": memory >> 20 if memory else None,
        "file": version.file_state if version else None,
        "context_length": version.sequence_limit_tokens if version else None,
        "max_model_len": version.sequence_limit_tokens if version else None,
        "supported_parameters": _supported_parameters(status),
        "roles": status.model.roles_in_force,
        "capabilities": status.capabilities,
        "version": f"{status.model.slug}@{version.label}" if version else None,
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
