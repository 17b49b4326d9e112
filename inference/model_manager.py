"""Models for Django programs: register what is needed, use it, release it.

Every function says how it went in a ``Result`` and raises only where this program itself is at
fault. They are coroutines; call them all from one event loop.
"""

import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, ParamSpec

import django.db
import redis

from inference.conf import inference_settings
from inference.database import in_database
from inference.errors import InferenceError
from inference.pool_report import pool_report
from inference.principal import INFERENCE, Principal
from inference.runs.embedding import embed_registered
from models_registry.errors import RegistryError
from models_registry.fleet.registrations import Registered, find_registration, register, release
from models_registry.rules.requirement import ModelRequirement, RequirementError, read_requirement

__all__ = [
    "ModelRequirement",
    "Result",
    "generate_embeddings",
    "get_service_status",
    "register_model",
    "release_model",
]

P = ParamSpec("P")
# What programs of this service do is recorded under no user.
_SELF: Final = Principal(0, "service", frozenset({INFERENCE}))


@dataclass(frozen=True)
class Problem:
    """Why something failed: a code for programs, a message for people."""

    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Result:
    """What a function gave back: ``data``, or else ``error``."""

    data: dict[str, Any] = field(default_factory=dict)
    error: Problem | None = None

    @property
    def success(self) -> bool:
        """Whether it went well."""
        return self.error is None


def _as_result(
    function: Callable[P, Awaitable[dict[str, Any]]],
) -> Callable[P, Awaitable[Result]]:
    """Turn what ``function`` returns, or what it raises that people are shown, into a result."""

    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        try:
            return Result(await function(*args, **kwargs))
        except RequirementError as error:
            problem = Problem("requirement_not_met", str(error), {"field": error.field})
        except RegistryError as error:
            problem = Problem("registry_error", str(error))
        except InferenceError as error:
            problem = Problem(error.code, error.message, error.details)
        except (django.db.OperationalError, redis.ConnectionError, redis.TimeoutError) as error:
            problem = Problem("temporarily_unavailable", f"A store is out of reach: {error}")
        return Result(error=problem)

    return call


@_as_result
async def register_model(
    model_id: str, model_config: ModelRequirement, requester_module_id: str
) -> dict[str, Any]:
    """Count a program as somebody who needs a model, until it calls ``release_model``.

    Call it at every start: asking again for the same counts once. A file that is not there is
    fetched in the background.

    Args:
        model_id: a name for this need, used in the other functions. Programs may share one.
        model_config: what is needed.
        requester_module_id: the program that asks.

    Returns:
        ``registered``, ``model_id``, ``new_registration``, ``model_type``, ``model_name``,
        ``reference_count`` (all claims on the same version), ``version``, and ``download_id``
        where its file is being fetched.
    """
    registered = await in_database(
        register,
        model_id,
        read_requirement(model_config),
        requester_module_id,
        inference_settings().models_dir,
    )
    return registration_data(registered)


def registration_data(registered: Registered) -> dict[str, Any]:
    """What ``register_model`` returns."""
    row, download = registered.registration, registered.download
    data = {
        "registered": True,
        "model_id": row.model_id,
        "new_registration": registered.is_new,
        "model_type": row.requirement["model_type"],
        "model_name": row.requirement["name"],
        "reference_count": registered.references,
        "version": row.version.key,
    }
    return data | {"download_id": str(download.pk)} if download else data


@_as_result
async def release_model(model_id: str, requester_module_id: str) -> dict[str, Any]:
    """Give up a program's reference.

    Returns:
        ``released``, and ``references`` that the version has left. At 0 it leaves memory once it is
        idle.
    """
    registration = await in_database(
        find_registration, model_id=model_id, requester=requester_module_id
    )
    if registration is None:
        raise RequirementError(
            f"{requester_module_id} has not registered {model_id!r}, or has released it.",
            "model_id",
        )
    return {"released": True, "references": await in_database(release, registration)}


@_as_result
async def generate_embeddings(texts: str | Sequence[str], model_id: str) -> dict[str, Any]:
    """Vectors of texts by a registered embedding model; brings it into memory if need be.

    Args:
        texts: one or many, none of them empty.
        model_id: as registered.

    Returns:
        As ``inference.runs.embedding.embed_registered``.
    """
    return await embed_registered(_SELF, texts, model_id)


@_as_result
async def get_service_status() -> dict[str, Any]:
    """The pool of model hosts: its state, what is in memory and for whom, and what waits.

    Returns:
        As ``GET /api/status``; docs/registrations.md has an example.
    """
    return await pool_report()
