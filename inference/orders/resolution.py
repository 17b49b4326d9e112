"""From the model that a request names to the version, or the versions, that serve it."""

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from inference.conf import OrchestrationSettings
from inference.database import in_database
from inference.errors import (
    InferenceError,
    InvalidRequestError,
    ModelFileMissingError,
    ModelLoadingError,
    ModelNotFoundError,
    ModelUnavailableError,
)
from inference.orders.cast import Cast, Member
from models_registry.catalogue import routing
from models_registry.catalogue.lookup import find_offer, spec_of
from models_registry.errors import RegistryError
from models_registry.fleet.preset_fit import too_large
from models_registry.fleet.registrations import find_registration, note_use
from models_registry.models import ModelVersion, Role
from models_registry.rules.requirement import RequirementError, check_dimension, read_requirement
from models_registry.rules.spec import ModelSpec, ModelType, Offer, PresetSpec

_T = TypeVar("_T")
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
        settings: of answers that several models give.
    """

    def __init__(
        self,
        models_dir: Path,
        draw: Callable[[], float] = random.random,
        settings: OrchestrationSettings | None = None,
    ) -> None:
        self._models_dir = models_dir
        self._draw = draw
        self._settings = settings or OrchestrationSettings()
        self._kept: dict[tuple[str, ...], tuple[float, Any]] = {}

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
        offer = await self._offer(name, task_type or "", preset)
        if isinstance(offer, PresetSpec):
            text = f"The preset {offer.name} has the mode {offer.mode}"
            raise _unserved_mode(text, "model" if preset is None else "preset")
        spec = offer.pick(self._draw())
        if spec.type != wanted_type:
            raise ModelNotFoundError(
                f"The model {name!r} is of type {spec.type}; this route needs {wanted_type}.",
                param="model",
                code="wrong_model_type",
            )
        if mode not in (None, "single"):
            raise _unserved_mode(f"'orchestration_mode' is {mode}", "orchestration_mode")
        if spec.missing_file_state:
            raise missing_file(spec.version_key, spec.missing_file_state)
        return spec

    async def cast(
        self,
        name: str,
        *,
        task_type: str | None = None,
        preset: str | None = None,
        mode: str | None = None,
    ) -> Cast | None:
        """The models that answer a chat request together; None where one answers.

        Arguments and errors are those of ``resolve``; a preset may also lack files or room.
        """
        found = await self._offer(name, task_type or "", preset)
        if isinstance(found, PresetSpec):
            _check_mode(mode, found.name, found.mode)
            await self._check_members(found)
            team, shown = found, found.name
        else:
            if found.spec.preset:
                _check_mode(mode, found.spec.preset, "single")
                return None
            mode = mode or self._settings.default_mode
            if mode == "single" or found.spec.type != ModelType.TEXT_GENERATION:
                return None
            key, shown = ("team", name, task_type or "", mode), found.spec.model_slug
            values = self._settings.modes[mode]
            team = await self._fresh(
                key, routing.find_team, found, mode, values, task_type or "", self._models_dir
            )
        draw = self._draw()  # one, so that a model with several parts is one version
        members = []
        for index, member in enumerate(team.members):
            spec = (member.offer.of_preset(team) if team.name else member.offer).pick(draw)
            if spec.missing_file_state:
                raise missing_file(spec.version_key, spec.missing_file_state)
            members.append(Member(index, member.role, spec))
        return Cast(team.mode, team.settings, tuple(members), shown, team.name)

    async def _check_members(self, preset: PresetSpec) -> None:
        """Refuse a preset of which a member is too large, or its file is not here."""
        cannot_run = f"The preset {preset.name} cannot run"
        if nodes := await self._fresh(("fit", preset.name), too_large, preset.name):
            reasons = " ".join(f"{node}: {reason}" for node, reason in nodes.items())
            raise ModelUnavailableError(
                f"{cannot_run}: a member is too large for every machine. {reasons}",
                code="preset_too_large",
                details={"nodes": nodes},
            )
        missing = [
            {"model": spec.version_key, "participant": member.role, "state": state}
            for member in preset.members
            if (spec := member.offer.spec) and (state := spec.missing_file_state)
        ]
        if missing:
            states = ", ".join("{model} ({participant}) is {state}".format(**m) for m in missing)
            names = " ".join(dict.fromkeys(member["model"] for member in missing))
            raise ModelUnavailableError(
                f"{cannot_run} yet: {states}. Fetch: python manage.py fetch_model {names}",
                code="preset_not_ready",
                details={"members": missing},
            )

    async def _offer(self, name: str, task_type: str, preset: str | None) -> Offer | PresetSpec:
        """The version that a request names, or its preset of several."""
        if preset is not None:
            if name != AUTO:
                raise InvalidRequestError(
                    'The preset names the model. Send "model": "auto" with it.', param="preset"
                )
            return await self._fresh(("preset", preset), self._of_preset, preset)
        if name == AUTO:
            return await self._fresh(("task", task_type), self._of_task, task_type)
        return await self._fresh(("model", name), self._of_name, name)

    async def _fresh(self, key: tuple[str, ...], find: Callable[..., _T], *values: Any) -> _T:
        """``find(*values)`` in the registry, at most ``OFFER_SECONDS`` ago."""
        now = time.monotonic()
        read_at, kept = self._kept.get(key, (0.0, None))
        if kept is not None and now - read_at < OFFER_SECONDS:
            return kept
        self._kept.pop(key, None)
        found = await in_database(find, *values)
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        self._kept[key] = (now, found)
        return found

    def _of_name(self, name: str) -> Offer | PresetSpec:
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
        offer = routing.find_offer_for_role(role, self._models_dir)
        if offer is None:
            raise ModelNotFoundError(
                f"No model whose file is here has the role {role!r}. Fetch one, or give the role "
                "to a model in the admin.",
                param="model",
            )
        return offer

    def _of_task(self, task_type: str) -> Offer:
        offer = routing.find_offer_for_task(task_type, self._models_dir)
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

    def _of_preset(self, name: str, param: str = "preset") -> Offer | PresetSpec:
        try:
            preset = routing.find_preset(name, self._models_dir, self._settings.modes)
        except RegistryError as error:
            raise InvalidRequestError(str(error), param=param) from error
        if preset is None:
            kind = "model" if param == "model" else "preset"
            raise ModelNotFoundError(
                f"The {kind} {name!r} does not exist. GET /v1/models lists the models there are.",
                param=param,
            )
        if preset.mode != "single":
            return preset
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


def _check_mode(mode: str | None, preset: str, own: str) -> None:
    if mode not in (None, own):
        raise InvalidRequestError(
            f"The preset {preset} has the mode {own}, but 'orchestration_mode' is {mode}. Leave it "
            "out, or name a model in place of the preset.",
            param="orchestration_mode",
        )


def _unserved_mode(what: str, param: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{what}, which this route does not serve. Send a chat request, or name a model or a "
        "preset that has one model.",
        param=param,
        code="unsupported_mode",
    )
