"""``/api/models``: models with their versions, for operators."""

from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from inference.api.openai.models import status_of, version_named
from inference.api.view import ApiView, json_response
from inference.database import in_database
from inference.principal import MODELS_READ
from models_registry.catalogue.routing import fallbacks_of
from models_registry.catalogue.status import ModelStatus, model_statuses
from models_registry.models import ModelVersion
from models_registry.rules.price import NANO, price_at


class RegisteredModels(ApiView):
    required_scope = MODELS_READ

    async def get(self, request: Request) -> HttpResponse:
        statuses = await in_database(model_statuses)
        return json_response({"object": "list", "data": [_summary(one) for one in statuses]})


class RegisteredModel(ApiView):
    required_scope = MODELS_READ

    async def get(self, request: Request, model_id: str) -> HttpResponse:
        status = await status_of(model_id)
        version_named(status, model_id)
        content = _summary(status) | {
            "fallbacks": await in_database(fallbacks_of, status.model.slug),
            "versions": _versions(status),
        }
        return json_response(content)


class Versions(ApiView):
    required_scope = MODELS_READ

    async def get(self, request: Request, model_id: str) -> HttpResponse:
        status = await status_of(model_id)
        return json_response({"object": "list", "data": _versions(status)})


def _summary(status: ModelStatus) -> dict[str, Any]:
    model = status.model
    return {
        "id": model.slug,
        "object": "model",
        "name": model.name,
        "type": model.type,
        "description": model.description,
        "licence": model.licence,
        "capabilities": status.capabilities,
        "languages": model.languages,
        "roles": model.roles_in_force,
        "status": status.status,
        "default_version": status.version.key if status.version else None,
        "created": int(model.created_at.timestamp()),
    }


def _versions(status: ModelStatus) -> list[dict[str, Any]]:
    return [_version(version, status) for version in status.model.versions.all()]


def _version(version: ModelVersion, status: ModelStatus) -> dict[str, Any]:
    # Not ``version.key``: it would read the model anew for each version.
    key = f"{status.model.slug}@{version.label}"
    states = [replica.state for replica in status.replicas if replica.version_key == key]
    return {
        "id": key,
        "object": "model.version",
        "label": version.label,
        "is_default": version.is_default,
        "is_deprecated": version.is_deprecated,
        "deprecation_note": version.deprecation_note or None,
        "canary_percent": version.canary_percent,
        "file": version.file_state,
        "file_error": version.file_error or None,
        "sha256": version.sha256 or None,
        "size_bytes": version.size_bytes,
        "architecture": version.architecture or None,
        "quantisation": version.quantisation or None,
        # Of the file; a replica holds no more than "kv_cells" of it.
        "context_length": version.context_length_tokens,
        "embedding_dimensions": version.embedding_dimensions,
        "vocabulary_size": version.vocabulary_size,
        "kv_bytes_per_token": version.kv_bytes_per_token,
        "capabilities": version.capabilities,
        "configuration": _configuration(version),
        "price": _price(version),
        "replica_states": states,
        "created": int(version.created_at.timestamp()),
    }


def _price(version: ModelVersion) -> dict[str, float]:
    """The price in force; without one all is free."""
    value = price_at((row.value for row in version.prices.all()), timezone.now())
    return {
        "prompt_usd_per_million_tokens": value.prompt_nano / NANO if value else 0.0,
        "cached_usd_per_million_tokens": value.cached_nano / NANO if value else 0.0,
        "completion_usd_per_million_tokens": value.completion_nano / NANO if value else 0.0,
        "usd_per_device_hour": value.device_hour_nano / NANO if value else 0.0,
    }


def _configuration(version: ModelVersion) -> dict[str, Any]:
    """Options of replicas; ``threads`` is None where the setting of the service applies."""
    return {
        "device": version.device,
        "gpu_layers": version.layers_on_gpu,
        "tensor_split": version.tensor_split,
        "kv_cells": version.kv_cells,
        "max_sequences": version.max_sequences,
        "threads": version.threads,
        "flash_attention": version.flash_attention,
        "cache_type_k": version.cache_type_k,
        "cache_type_v": version.cache_type_v,
        "draft_model": version.draft_model.key if version.draft_model else None,
        "speculation": version.speculation,
        "pinned": version.pinned,
        "preload_workers": version.preload_workers,
        "keep_alive_seconds": version.keep_alive_seconds,
        "default_sampling": version.default_sampling,
    }
