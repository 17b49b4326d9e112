"""Versions and presets as frozen values, for other apps."""

from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import TextChoices

from models_registry.rules.mode_settings import ModeSettings
from models_registry.rules.price import Price


class ModelType(TextChoices):
    TEXT_GENERATION = "text_generation"
    EMBEDDING = "embedding"
    TEXT2TEXT = "text2text"
    CLASSIFICATION = "classification"
    VISION = "vision"


@dataclass(frozen=True)
class RequestLimits:
    """Limits of requests that name a registration; None: no limit.

    ``max_output_tokens`` is also their default. ``batch_texts`` is the number of texts per call of
    an embedding model; its vectors may come from a cache if ``reuses_vectors``.
    """

    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    batch_texts: int | None = None
    reuses_vectors: bool = True


@dataclass(frozen=True)
class ModelSpec:
    """A version with all that is needed to serve it.

    ``context_length_tokens`` limits prompt and completion of one sequence; ``kv_cells`` limits
    all sequences of a replica together. The options from ``threads`` on are explained in
    ``models_registry.models.runtime``; ``threads`` is None for the service's setting.
    ``missing_file_state`` is the state of the file if it is not here and no replica serves the
    version; "" otherwise. ``weights`` identifies the contents of the file, "" if it cannot be read;
    another file under the same label has another. ``limits`` come from the registration that a
    request names, ``preset`` is the preset that it names, ``cache`` its ``CacheSettings``.
    ``prices`` are the present one, those to come, and those that ended within the last hour.
    ``sections`` are the tokens for each section of an orchestrated prompt; empty without a budget.
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
    weights: str = ""
    limits: RequestLimits = RequestLimits()
    preset: str = ""
    cache: dict[str, Any] = field(default_factory=dict)
    prices: tuple[Price, ...] = ()
    sections: dict[str, int] = field(default_factory=dict)

    @property
    def sequence_limit_tokens(self) -> int:
        """The longest sequence a replica can hold: the model's context or the whole KV cache."""
        return min(self.context_length_tokens, self.kv_cells)

    @property
    def deprecation(self) -> str:
        """The warning in answers of a deprecated version; "" for any other."""
        if not self.is_deprecated:
            return ""
        return f"{self.version_key} is deprecated. {self.deprecation_note}".strip()

    def with_sampling(self, values: dict[str, Any]) -> "ModelSpec":
        """A copy whose default sampling is overridden by ``values``."""
        return replace(self, default_sampling=self.default_sampling | values)


@dataclass(frozen=True)
class Offer:
    """The version that a name stands for, and canaries that get a share of its requests.

    ``canaries`` are pairs of a share in percent and a version.
    """

    spec: ModelSpec
    canaries: tuple[tuple[int, ModelSpec], ...] = ()

    def pick(self, draw: float) -> ModelSpec:
        """The version for one request, chosen by ``draw``, a random number in [0, 1)."""
        bound = 0
        for percent, canary in self.canaries:
            bound += percent
            if draw * 100 < bound:
                return canary
        return self.spec

    def of_preset(self, preset: "PresetSpec") -> "Offer":
        """The same versions, as a preset offers them."""

        def changed(spec: ModelSpec) -> ModelSpec:
            sampled = spec.with_sampling(preset.default_sampling)
            return replace(sampled, preset=preset.name, cache=preset.cache)

        canaries = tuple((share, changed(spec)) for share, spec in self.canaries)
        return Offer(changed(self.spec), canaries)


@dataclass(frozen=True)
class MemberSpec:
    role: str
    offer: Offer


@dataclass(frozen=True)
class PresetSpec:
    """A preset that can run; members are in order of position."""

    name: str
    mode: str
    settings: ModeSettings
    default_sampling: dict[str, Any]
    cache: dict[str, Any]
    members: tuple[MemberSpec, ...]
