"""The requirements with which programs register models."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from models_registry.errors import RegistryError
from models_registry.rules.sampling import Temperature, TopK, TopP
from models_registry.rules.spec import ModelSpec, ModelType, RequestLimits

MAX_PRELOAD: Final = 64
# Postgres stores no NUL.
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
_Device = Annotated[str, msgspec.Meta(pattern=r"^(auto|cpu|[a-z]+(:[0-9]{1,3})?)$")]
_Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
_Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]

_EVERY_TYPE: Final = frozenset({"model_type", "name", "device", "preload_workers"})
_LENGTHS: Final = frozenset({"max_input_length", "max_output_length"})
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    ModelType.EMBEDDING: frozenset({"dimension", "batch_size", "cache_embeddings"}),
    ModelType.TEXT_GENERATION: _LENGTHS | {"temperature", "top_k", "top_p", "streaming"},
    ModelType.TEXT2TEXT: _LENGTHS,
    ModelType.CLASSIFICATION: frozenset({"num_labels", "threshold"}),
    ModelType.VISION: frozenset(),
}
_SERVED: Final = (ModelType.EMBEDDING, ModelType.TEXT_GENERATION)


class RequirementError(RegistryError):
    """A requirement cannot be met because of ``field``."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class ModelRequirement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that a program needs.

    ``name`` is a model's id, ``id@version``, or a Hugging Face repository. ``device`` is a
    preference: the model runs elsewhere if no node has it. ``preload_workers`` replicas are loaded
    at once if memory allows; with 0 the first request loads the model. ``batch_size`` is the number
    of texts per call of an embedding model. The two lengths, in tokens, and the sampling values
    apply to requests that name the registration. ``streaming`` changes nothing: all models stream.
    """

    model_type: Literal["embedding", "text_generation", "text2text", "classification", "vision"]
    name: _Name
    device: _Device = "auto"
    preload_workers: Annotated[int, msgspec.Meta(ge=0, le=MAX_PRELOAD)] = 0
    dimension: _Count | None = None
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=2048)] = 32
    cache_embeddings: bool = True
    max_input_length: _Count | None = None
    max_output_length: _Count | None = None
    temperature: Temperature | None = None
    top_k: TopK | None = None
    top_p: TopP | None = None
    streaming: bool = False
    num_labels: _Count | None = None
    threshold: _Fraction | None = None

    @property
    def sampling(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in ("temperature", "top_k", "top_p")}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def limits(self) -> RequestLimits:
        is_embedding = self.model_type == "embedding"
        return RequestLimits(
            max_input_tokens=self.max_input_length,
            max_output_tokens=self.max_output_length,
            batch_texts=self.batch_size if is_embedding else None,
            reuses_vectors=self.cache_embeddings,
        )


def read_requirement(value: Any) -> ModelRequirement:
    """Check a requirement, or a mapping of its fields; constructing one checks nothing.

    Raises:
        RequirementError: a value is wrong, or a field does not belong to the model type.
    """
    if isinstance(value, ModelRequirement):
        value = msgspec.to_builtins(value)
    try:
        requirement = msgspec.convert(value, ModelRequirement)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        raise RequirementError(f"{message}.", place.strip(".`")) from error
    defaults = ModelRequirement(model_type=requirement.model_type, name=requirement.name)
    for name in requirement.__struct_fields__:
        foreign = name not in _EVERY_TYPE | _FIELDS[requirement.model_type]
        if foreign and getattr(requirement, name) != getattr(defaults, name):
            raise RequirementError(
                f"{name!r} does not apply to models of type {requirement.model_type}. Remove it.",
                name,
            )
    return requirement


def check_requirement(
    requirement: ModelRequirement, spec: ModelSpec, *, type_is_known: bool = True
) -> None:
    """Raise ``RequirementError`` unless the version ``spec`` meets the requirement.

    ``type_is_known`` is False if the type will be read from a file that is not here yet.
    """
    if type_is_known and spec.type != requirement.model_type:
        raise RequirementError(
            f"{spec.model_slug} is of type {spec.type}, not {requirement.model_type}.",
            "model_type",
        )
    if requirement.model_type not in _SERVED:
        raise RequirementError(
            f"Models of type {requirement.model_type} are not served yet. Served types: "
            f"{', '.join(_SERVED)}.",
            "model_type",
        )
    check_dimension(requirement, spec)
    asked = (requirement.max_input_length or 0) + (requirement.max_output_length or 0)
    if asked > spec.sequence_limit_tokens:
        raise RequirementError(
            f"{spec.version_key} takes {spec.sequence_limit_tokens} tokens for prompt and answer "
            f"together; {asked} are required.",
            "max_input_length",
        )


def check_dimension(requirement: ModelRequirement, spec: ModelSpec) -> None:
    """Raise ``RequirementError`` if the version's vectors are known to have another size."""
    known = spec.embedding_dimensions
    if requirement.dimension is not None and known not in (None, requirement.dimension):
        raise RequirementError(
            f"{spec.version_key} gives {known} dimensions, not {requirement.dimension}.",
            "dimension",
        )
