"""Find versions by the names that requests use."""

from datetime import timedelta
from pathlib import Path
from typing import Final

from django.utils import timezone

from models_registry.models import ModelVersion, Replica
from models_registry.models.context import SECTIONS
from models_registry.rules.names import path_below
from models_registry.rules.price import Price, price_at
from models_registry.rules.spec import ModelSpec, Offer

_PAST_PRICES: Final = timedelta(hours=1)
_READ_WITH: Final = ("model", "draft_model", "context_budget")


def find_version(name: str) -> ModelVersion | None:
    """The version named ``model@label``, or the default version of ``model``."""
    slug, _, label = name.partition("@")
    versions = ModelVersion.objects.select_related(*_READ_WITH)
    versions = versions.filter(model__slug=slug)
    return (versions.filter(label=label) if label else versions.filter(is_default=True)).first()


def find_offer(name: str, models_dir: Path) -> Offer | None:
    """The version that ``find_version`` finds; with its canaries if ``name`` has no label."""
    version = find_version(name)
    if version is None:
        return None
    spec = spec_of(version, models_dir)
    if name.partition("@")[2]:
        return Offer(spec)
    canaries = ModelVersion.objects.select_related(*_READ_WITH).filter(
        model=version.model_id,
        is_default=False,
        is_deprecated=False,
        canary_percent__gt=0,
        file_state=ModelVersion.FileState.READY,
    )
    return Offer(spec, tuple((one.canary_percent, spec_of(one, models_dir)) for one in canaries))


def spec_of(version: ModelVersion, models_dir: Path) -> ModelSpec:
    """The version as a frozen value."""
    draft = version.usable_draft
    path = path_below(models_dir, version.file_name)
    is_ready = version.file_state == ModelVersion.FileState.READY
    serving = version.replicas.filter(state=Replica.State.READY)
    missing_file_state = ""
    if not ((is_ready and path.is_file()) or serving.exists()):
        missing_file_state = str(ModelVersion.FileState.ABSENT if is_ready else version.file_state)
    return ModelSpec(
        model_slug=version.model.slug,
        version_key=version.key,
        type=version.model.type,
        path=str(path),
        chat_template=version.chat_template,
        context_length_tokens=version.context_length_tokens or version.kv_cells,
        kv_cells=version.kv_cells,
        max_sequences=version.max_sequences,
        threads=version.threads,
        device=version.device,
        gpu_layers=version.layers_on_gpu,
        tensor_split=tuple(version.tensor_split),
        flash_attention=version.flash_attention,
        cache_type_k=version.cache_type_k,
        cache_type_v=version.cache_type_v,
        draft_path=str(path_below(models_dir, draft.file_name)) if draft else None,
        speculation=version.speculation,
        embedding_dimensions=version.embedding_dimensions,
        default_sampling=version.default_sampling,
        is_deprecated=version.is_deprecated,
        deprecation_note=version.deprecation_note,
        missing_file_state=missing_file_state,
        weights=weights_of(version, path),
        prices=_prices_of(version),
        sections=_sections_of(version),
    )


def weights_of(version: ModelVersion, path: Path) -> str:
    """Identity of the contents of a version's file, without reading them.

    A file whose checksum is known need not be looked at: hosts load no other file.
    """
    if version.sha256:
        return version.sha256
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def _sections_of(version: ModelVersion) -> dict[str, int]:
    budget = getattr(version, "context_budget", None)
    return {section: getattr(budget, f"{section}_tokens") for section in SECTIONS} if budget else {}


def _prices_of(version: ModelVersion) -> tuple[Price, ...]:
    """The prices from some time before now on, since clocks of machines differ."""
    since = timezone.now() - _PAST_PRICES
    prices = [row.value for row in version.prices.all()]
    first = price_at(prices, since)
    return tuple(price for price in prices if price.valid_from > since or price == first)
