"""``/api/models/registrations``: counted claims of programs on models."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from msgspec import Meta
from rest_framework.request import Request

from inference.api.view import ApiView, body_of, json_response, principal_in
from inference.conf import inference_settings
from inference.database import in_database
from inference.errors import InvalidRequestError, ModelNotFoundError, NotFoundError
from inference.model_manager import registration_data
from inference.orders.requests import MAX_TEXTS, Name
from inference.principal import MODELS_OPERATE, MODELS_READ, Principal
from inference.runs.embedding import embed_registered
from inference.runs.runtime import runtime
from models_registry.fleet.registrations import active_registrations, register, release
from models_registry.models import Registration
from models_registry.rules.requirement import RequirementError, read_requirement


class RegistrationRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``register_model``; ``model_config`` has the fields of ``ModelRequirement``."""

    model_id: Name
    model_config: dict[str, Any]
    requester_module_id: Name


class RegisteredTexts(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of ``generate_embeddings``."""

    texts: str | Annotated[list[str], Meta(min_length=1, max_length=MAX_TEXTS)]
    model_id: Name


class Registrations(ApiView):
    required_scope = MODELS_OPERATE
    reading_scope = MODELS_READ

    async def get(self, request: Request) -> HttpResponse:
        """Active registrations, the oldest first."""
        return json_response({"object": "list", "data": await in_database(_listed)})

    async def post(self, request: Request) -> HttpResponse:
        """Register the need of a program for a model; repeating it changes nothing."""
        body = body_of(request, RegistrationRequest, inference_settings().max_body_bytes)
        content = await in_database(_register, body, principal_in(request))
        return json_response(content, status=201 if content["new_registration"] else 200)


class EmbeddingsOfRegistered(ApiView):
    async def post(self, request: Request) -> HttpResponse:
        body = body_of(request, RegisteredTexts, runtime().settings.max_body_bytes)
        principal = principal_in(request)
        content = await embed_registered(principal, body.texts, body.model_id)
        return json_response(content)


class RegistrationDetail(ApiView):
    required_scope = MODELS_OPERATE

    async def delete(self, request: Request, registration_id: UUID) -> HttpResponse:
        """Release a registration; repeating it changes nothing."""
        content = await in_database(_release, registration_id, principal_in(request))
        return json_response(content)


def _listed() -> list[dict[str, Any]]:
    return [registration_object(row) for row in active_registrations()]


def registration_object(row: Registration) -> dict[str, Any]:
    """A registration for clients; times are seconds since 1970."""
    return {
        "id": str(row.pk),
        "object": "model.registration",
        "model_id": row.model_id,
        "requester_module_id": row.requester,
        "model_config": row.requirement,
        "version": row.version.key,
        "since": int(row.since.timestamp()),
        "last_used_at": int(row.last_used_at.timestamp()) if row.last_used_at else None,
        "released_at": int(row.released_at.timestamp()) if row.released_at else None,
    }


def _register(body: RegistrationRequest, principal: Principal) -> dict[str, Any]:
    user = get_user_model().objects.get(pk=principal.user_id)
    try:
        registered = register(
            body.model_id,
            read_requirement(body.model_config),
            body.requester_module_id,
            inference_settings().models_dir,
            user,
        )
    except RequirementError as error:
        if error.field == "name":
            raise ModelNotFoundError(str(error), param="model_config.name") from error
        param = error.field if error.field == "model_id" else f"model_config.{error.field}"
        raise InvalidRequestError(str(error), param=param, code="requirement_not_met") from error
    return registration_object(registered.registration) | registration_data(registered)


def _release(registration_id: UUID, principal: Principal) -> dict[str, Any]:
    rows = Registration.objects.select_related("version__model")
    row = rows.filter(pk=registration_id).first()
    if row is None:
        raise NotFoundError(
            f"There is no registration {registration_id}. GET /api/models/registrations."
        )
    user = get_user_model().objects.get(pk=principal.user_id)
    references = release(row, user)
    return registration_object(row) | {"released": True, "references": references}
