"""What other apps see of versions and presets: frozen values, free of the ORM."""

from dataclasses import dataclass, field, replace
from typing import Any

from models_registry.rules.mode_settings import ModeSettings


@dataclass(frozen=True)
class RequestLimits:
    """What a registration holds the requests to that name it; None where it says nothing.

    ``max_output_tokens`` is also what an answer may have where the request names no number.
    ``batch_texts`` go to an embedding model at a time.
    """

    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    batch_texts: int | None = None


@dataclass(frozen=True)
class ModelSpec:
    """One version of one model, as far as serving it is concerned.

    ``context_length_tokens`` bounds prompt and completion of one sequence; ``kv_cells`` bounds
    all sequences of a replica together. The options from ``threads`` on are those of
    ``models_registry.models.runtime``; ``threads`` is None where the service's setting counts.
    ``draft_path`` is the file of the model that guesses tokens ahead, if there is one.
    Answers of a version that ``is_deprecated`` carry a warning with ``deprecation_note``.
    ``missing_file_state`` is the state of the file where neither it is there nor a replica that
    serves without it; "" otherwise. ``limits`` are those of the registration that a request names.
    """

    model_slug: str
    version_key: str
    type: str
    path: str
    chat_template: str
    context_length_tokens: int
    kv_cells: int
    max_sequences: int
    threads: int | None = None
    device: str = "auto"
    gpu_layers: int = -1
    tensor_split: tuple[float, ...] = ()
    flash_attention: str = "auto"
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    draft_path: str | None = None
    speculation: str = "auto"
    embedding_dimensions: int | None = None
    default_sampling: dict[str, Any] = field(default_factory=dict)
    is_deprecated: bool = False
    deprecation_note: str = ""
    missing_file_state: str = ""
    limits: RequestLimits = RequestLimits()

    @property
    def sequence_limit_tokens(self) -> int:
        """The longest sequence a replica can hold: the model's context or the whole KV cache."""
        return min(self.context_length_tokens, self.kv_cells)

    @property
    def deprecation(self) -> str:
        """What answers of a deprecated version say of it; "" for any other."""
        if not self.is_deprecated:
            return ""
        return f"{self.version_key} is deprecated. {self.deprecation_note}".strip()

    def with_sampling(self, values: dict[str, Any]) -> "ModelSpec":
        """The same version; ``values`` go before its own default sampling."""
        return replace(self, default_sampling=self.default_sampling | values)


@dataclass(frozen=True)
class Offer:
    """What a name can mean: a version, and canaries that get a share of its requests.

    ``canaries`` are pairs of a share in percent and a version. May be kept for a while and asked
    once for each request.
    """

    spec: ModelSpec
    canaries: tuple[tuple[int, ModelSpec], ...] = ()

    def pick(self, draw: float) -> ModelSpec:
        """The version of one request.

        Args:
            draw: a number in [0, 1), random for each request.
        """
        bound = 0
        for percent, canary in self.canaries:
            bound += percent
            if draw * 100 < bound:
                return canary
        return self.spec

    def with_sampling(self, values: dict[str, Any]) -> "Offer":
        """The same; ``values`` go before the default sampling of each version."""
        canaries = tuple((share, spec.with_sampling(values)) for share, spec in self.canaries)
        return Offer(self.spec.with_sampling(values), canaries)


@dataclass(frozen=True)
class MemberSpec:
    """One speaker of a preset; ``role`` is what it does there."""

    role: str
    offer: Offer


@dataclass(frozen=True)
class PresetSpec:
    """A preset that can be run; members are in the order of their positions."""

    name: str
    mode: str
    settings: ModeSettings
    default_sampling: dict[str, Any]
    members: tuple[MemberSpec, ...]
