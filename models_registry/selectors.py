"""Read entrance of the registry: what other apps ask about models and replicas."""

from dataclasses import dataclass
from pathlib import Path

from models_registry.models import Model, ModelVersion, Replica
from models_registry.spec import ModelSpec


@dataclass(frozen=True)
class ReplicaStatus:
    """Where one replica is, for lists and readiness."""

    version_key: str
    node: str
    desired: str
    state: str
    reason: str
    load_fraction: float
    resident_bytes: int | None
    device: str


@dataclass(frozen=True)
class ModelStatus:
    """One model for lists: its default version and what is in memory of it."""

    model: Model
    version: ModelVersion | None
    replicas: list[ReplicaStatus]

    @property
    def status(self) -> str:
        """``loaded``, ``loading``, ``failed`` or ``available``."""
        states = {replica.state for replica in self.replicas if replica.desired == "resident"}
        if states & {"ready"}:
            return "loaded"
        if states & {"starting", "loading", "stopped"}:
            return "loading"
        return "failed" if "failed" in states else "available"


def spec_of(version: ModelVersion, models_dir: Path) -> ModelSpec:
    """The version as other apps see it."""
    draft = version.draft_model
    return ModelSpec(
        model_slug=version.model.slug,
        version_key=version.key,
        type=version.model.type,
        path=str(models_dir / version.file_name),
        chat_template=version.chat_template,
        context_length_tokens=version.context_length_tokens or version.kv_cells,
        kv_cells=version.kv_cells,
        max_sequences=version.max_sequences,
        threads=version.threads,
        device=version.device,
        gpu_layers=version.gpu_layers,
        tensor_split=tuple(version.tensor_split),
        flash_attention=version.flash_attention,
        cache_type_k=version.cache_type_k,
        cache_type_v=version.cache_type_v,
        draft_path=str(models_dir / draft.file_name) if draft else None,
        speculation=version.speculation,
        embedding_dimensions=version.embedding_dimensions,
        default_sampling=version.default_sampling,
    )


def find_spec(name: str, models_dir: Path) -> ModelSpec | None:
    """The version that a request means by ``name``.

    Args:
        name: ``model`` for its default version, or ``model@label``.
        models_dir: where the files are.

    Returns:
        The spec, or None when no such version is registered.
    """
    version = find_version(name)
    return None if version is None else spec_of(version, models_dir)


def find_version(name: str) -> ModelVersion | None:
    """The row that ``name`` means: ``model`` for its default version, or ``model@label``."""
    slug, _, label = name.partition("@")
    versions = ModelVersion.objects.select_related("model", "draft_model")
    versions = versions.filter(model__slug=slug)
    return (versions.filter(label=label) if label else versions.filter(is_default=True)).first()


def model_statuses(slug: str | None = None) -> list[ModelStatus]:
    """All models, or the one named ``slug``, with their replicas."""
    models = Model.objects.prefetch_related("versions")
    if slug is not None:
        models = models.filter(slug=slug)
    replicas = replica_statuses()
    statuses = []
    for model in models:
        version = next((v for v in model.versions.all() if v.is_default), None)
        keys = {f"{model.slug}@{v.label}" for v in model.versions.all()}
        own = [replica for replica in replicas if replica.version_key in keys]
        statuses.append(ModelStatus(model, version, own))
    return statuses


def replica_statuses() -> list[ReplicaStatus]:
    """Every replica, wanted or not."""
    return [
        ReplicaStatus(
            version_key=replica.version.key,
            node=replica.node.name,
            desired=replica.desired,
            state=replica.state,
            reason=replica.reason,
            load_fraction=replica.load_fraction,
            resident_bytes=replica.resident_bytes,
            device=replica.device,
        )
        for replica in Replica.objects.select_related("version__model", "node")
    ]
