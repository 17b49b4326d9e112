"""From the model that a request names to the version that serves it."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from inference.database import in_database
from inference.errors import (
    InferenceError,
    InvalidRequestError,
    ModelFileMissingError,
    ModelLoadingError,
    ModelNotFoundError,
)
from models_registry.catalogue.lookup import find_offer, spec_of
from models_registry.catalogue.routing import find_offer_for_role, find_offer_for_task, find_preset
from models_registry.errors import RegistryError
from models_registry.fleet.registrations import find_registration, note_use
from models_registry.models import ModelVersion, Role
from models_registry.rules.requirement import RequirementError, check_dimension, read_requirement
from models_registry.rules.spec import ModelSpec, Offer

# How long an answer of the registry about a name is reused.
OFFER_SECONDS: Final = 1.0
# Clients invent types of tasks; they must not fill the memory.
_MAX_KEPT: Final = 1000
AUTO, ROLE, REGISTRATION = "auto", "role:", "registration:"
"""Values of ``model`` besides names: chosen by preset or task, by role, by registration."""


class Resolver:
    """Finds versions by name, role, type of task, preset or registration.

    Args:
        models_dir: folder of the model files.
        draw: gives a number in [0, 1) per request, which decides about canaries.
    """

    def __init__(self, models_dir: Path, draw: Callable[[], float] = random.random) -> None:
        self._models_dir = models_dir
        self._draw = draw
        self._kept: dict[tuple[str, str], tuple[float, Offer]] = {}

    async def resolve(
        self,
        name: str,
        wanted_type: str,
        *,
        task_type: str | None = None,
        preset: str | None = None,
        mode: str | None = None,
    ) -> ModelSpec:
        """The version for one request; the next request may get a canary instead.

        Args:
            name: a model, ``model@version``, a preset, ``role:…``, ``registration:…``, or ``auto``.
            wanted_type: what the route needs.
            task_type: chooses the model by its role where ``name`` is ``auto``.
            preset: chooses the model where ``name`` is ``auto``.
            mode: of orchestration.

        Raises:
            ModelNotFoundError: there is none, or it is of another type.
            ModelFileMissingError, ModelLoadingError: its file is not here, or is being fetched.
            InvalidRequestError: the fields contradict each other, or ask for several models.
        """
        if mode not in (None, "single"):
            raise _unserved_mode(f"'orchestration_mode' is {mode}", "orchestration_mode")
        if preset is not None and name != AUTO:
            raise InvalidRequestError(
                'The preset names the model. Send "model": "auto" with it.', param="preset"
            )
        offer = await self._offer(name, task_type or "", preset)
        spec = offer.pick(self._draw())
        if spec.type != wanted_type:
            raise ModelNotFoundError(
                f"The model {name!r} is of type {spec.type}; this route needs {wanted_type}.",
                param="model",
                code="wrong_model_type",
            )
        if spec.missing_file_state:
            raise missing_file(spec.version_key, spec.missing_file_state)
        return spec

    async def _offer(self, name: str, task_type: str, preset: str | None) -> Offer:
        """The offer, read from the registry at most ``OFFER_SECONDS`` ago."""
        find: Callable[[str], Offer]
        if preset is not None:
            key, find = ("preset", preset), self._of_preset
        elif name == AUTO:
            key, find = ("task", task_type), self._of_task
        else:
            key, find = ("model", name), self._of_name
        now = time.monotonic()
        read_at, offer = self._kept.get(key, (now, None))
        if offer is not None and now - read_at < OFFER_SECONDS:
            return offer
        self._kept.pop(key, None)
        offer = await in_database(find, key[1])
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        self._kept[key] = (now, offer)
        return offer

    def _of_name(self, name: str) -> Offer:
        if name.startswith(ROLE):
            return self._of_role(name.removeprefix(ROLE))
        if name.startswith(REGISTRATION):
            return self._of_registration(name.removeprefix(REGISTRATION))
        offer = find_offer(name, self._models_dir)
        return offer or self._of_preset(name, "model")

    def _of_role(self, role: str) -> Offer:
        if role not in Role.values:
            raise ModelNotFoundError(
                f"There is no role {role!r}, but {', '.join(Role.values)}.", param="model"
            )
        offer = find_offer_for_role(role, self._models_dir)
        if offer is None:
            raise ModelNotFoundError(
                f"No model whose file is here has the role {role!r}. Fetch one, or give the role "
                "to a model in the admin.",
                param="model",
            )
        return offer

    def _of_task(self, task_type: str) -> Offer:
        offer = find_offer_for_task(task_type, self._models_dir)
        if offer is None:
            raise ModelNotFoundError(
                f"No model whose file is here does tasks of type {task_type or 'default'!r}. "
                "GET /v1/models lists the models and their roles.",
                param="task_type" if task_type else "model",
            )
        return offer

    def _of_registration(self, model_id: str) -> Offer:
        registration = find_registration(model_id=model_id)
        if registration is None:
            raise ModelNotFoundError(
                f"Nothing is registered as {model_id!r}. POST /api/models/registrations does that.",
                param="model",
            )
        note_use(registration)
        requirement = read_requirement(registration.requirement)
        spec = spec_of(registration.version, self._models_dir)
        try:
            # The size of vectors may have become known since it was registered.
            check_dimension(requirement, spec)
        except RequirementError as error:
            raise InvalidRequestError(
                str(error),
                param="model",
                code="requirement_not_met",
                details={"field": error.field},
            ) from error
        return Offer(replace(spec.with_sampling(requirement.sampling), limits=requirement.limits))

    def _of_preset(self, name: str, param: str = "preset") -> Offer:
        try:
            preset = find_preset(name, self._models_dir)
        except RegistryError as error:
            raise InvalidRequestError(str(error), param=param) from error
        if preset is None:
            kind = "model" if param == "model" else "preset"
            raise ModelNotFoundError(
                f"The {kind} {name!r} does not exist. GET /v1/models lists the models there are.",
                param=param,
            )
        if preset.mode != "single":
            raise _unserved_mode(f"The preset {name} has the mode {preset.mode}", param)
        return preset.members[0].offer.of_preset(preset)


def missing_file(version_key: str, file_state: str) -> InferenceError:
    """Why a version without its file cannot serve; a retry helps while it is being fetched."""
    if file_state != ModelVersion.FileState.FETCHING:
        return ModelFileMissingError(
            f"The file of {version_key} is not here. Fetch it first: "
            f"python manage.py fetch_model {version_key}",
            param="model",
        )
    return ModelLoadingError(
        f"The file of {version_key} is being fetched. Try again when GET /v1/models says that it "
        "is here.",
        code="model_file_fetching",
        param="model",
        retry_after_ms=10_000,
    )


def _unserved_mode(what: str, param: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{what}, which is not served yet; only the mode single is. Name a model, or a preset "
        "that has one model.",
        param=param,
        code="unsupported_mode",
    )
