"""What a program requires of a model when it registers one: pure."""

from typing import Annotated, Any, Final, Literal

import msgspec

from models_registry.errors import RegistryError
from models_registry.rules.sampling import Temperature, TopK, TopP
from models_registry.rules.spec import ModelSpec, RequestLimits

MAX_PRELOAD: Final = 64
# Postgres stores no NUL.
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
_Device = Annotated[str, msgspec.Meta(pattern=r"^(auto|cpu|[a-z]+(:[0-9]{1,3})?)$")]
_Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
_Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]

_EVERY_TYPE: Final = frozenset({"model_type", "name", "device", "preload_workers"})
_LENGTHS: Final = frozenset({"max_input_length", "max_output_length"})
_FIELDS: Final[dict[str, frozenset[str]]] = {
    "embedding": frozenset({"dimension", "batch_size", "cache_embeddings"}),
    "text_generation": _LENGTHS | {"temperature", "top_k", "top_p", "streaming"},
    "text2text": _LENGTHS,
    "classification": frozenset({"num_labels", "threshold"}),
    "vision": frozenset(),
}
_SERVED: Final = ("embedding", "text_generation")


class RequirementError(RegistryError):
    """A requirement cannot be met; ``field`` is the one at fault."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class ModelRequirement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that a program needs, and how it needs it.

    ``name`` is a model's id, ``id@version``, or a Hugging Face repository. ``device`` is a wish:
    where no machine has it, the model runs on what there is. ``preload_workers`` replicas are
    brought into memory at once, as many as there is room for; with 0 the first use brings it.

    Embedding: ``dimension`` of the vectors, ``batch_size`` texts go to the model at a time, and
    ``cache_embeddings`` allows results from a cache. Text generation: ``temperature``, ``top_k``
    and ``top_p`` are what requests get that name the registration and say nothing else;
    ``streaming`` asks for a model whose answers can be streamed, which all can. The two lengths, in
    tokens, must fit the model together; requests that name the registration are held to them.
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
        """Sampling values of requests that name the registration and no others."""
        values = {name: getattr(self, name) for name in ("temperature", "top_k", "top_p")}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def limits(self) -> RequestLimits:
        """What requests that name the registration are held to."""
        is_embedding = self.model_type == "embedding"
        return RequestLimits(
            max_input_tokens=self.max_input_length,
            max_output_tokens=self.max_output_length,
            batch_texts=self.batch_size if is_embedding else None,
        )


def read_requirement(value: Any) -> ModelRequirement:
    """A requirement with types and ranges checked, which building one in Python does not do.

    Args:
        value: a requirement, or a mapping of its fields.

    Raises:
        RequirementError: a value is wrong, or a field does not belong to the type.
    """
    if isinstance(value, ModelRequirement):
        value = msgspec.to_builtins(value)
    try:
        requirement = msgspec.convert(value, ModelRequirement)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        raise RequirementError(f"{message}.", place.strip(".`")) from error
    usual = ModelRequirement(model_type=requirement.model_type, name=requirement.name)
    for name in requirement.__struct_fields__:
        foreign = name not in _EVERY_TYPE | _FIELDS[requirement.model_type]
        if foreign and getattr(requirement, name) != getattr(usual, name):
            raise RequirementError(
                f"{name!r} says nothing of a model of type {requirement.model_type}. Leave it out.",
                name,
            )
    return requirement


def check_requirement(
    requirement: ModelRequirement, spec: ModelSpec, *, type_is_known: bool = True
) -> None:
    """See that a version is what is required.

    Args:
        requirement: what is needed.
        spec: the version.
        type_is_known: false where only the version's file will tell its type.

    Raises:
        RequirementError: it is of another type, or is too small; says by how much.
    """
    if type_is_known and spec.type != requirement.model_type:
        raise RequirementError(
            f"{spec.model_slug} is of type {spec.type}, not {requirement.model_type}.",
            "model_type",
        )
    if requirement.model_type not in _SERVED:
        raise RequirementError(
            f"Models of type {requirement.model_type} are not served yet; those of type "
            f"{' and '.join(_SERVED)} are.",
            "model_type",
        )
    check_dimension(requirement, spec)
    asked = (requirement.max_input_length or 0) + (requirement.max_output_length or 0)
    if asked > spec.sequence_limit_tokens:
        raise RequirementError(
            f"{spec.version_key} takes {spec.sequence_limit_tokens} tokens, prompt and answer "
            f"together; {asked} are required.",
            "max_input_length",
        )


def check_dimension(requirement: ModelRequirement, spec: ModelSpec) -> None:
    """See that a version gives vectors of the size that is required, as far as that is known.

    Raises:
        RequirementError: it gives others.
    """
    known = spec.embedding_dimensions
    if requirement.dimension is not None and known not in (None, requirement.dimension):
        raise RequirementError(
            f"{spec.version_key} gives {known} dimensions, not {requirement.dimension}.",
            "dimension",
        )
