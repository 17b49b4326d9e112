"""Read entrance of the registry: what other apps ask about models and replicas."""

from dataclasses import dataclass
from pathlib import Path

from models_registry.models import Model, ModelVersion, Replica
from models_registry.rules.capabilities import capabilities_in_force
from models_registry.rules.names import path_below
from models_registry.rules.spec import ModelSpec, Offer


@dataclass(frozen=True)
class ReplicaStatus:
    """Where one replica is, for lists and readiness.

    ``memory_bytes`` is all that is set aside for it while it is there, weights included.
    ``is_on_demand`` says that it came for requests, and leaves when there are none.
    """

    version_key: str
    node: str
    desired: str
    state: str
    reason: str
    load_fraction: float
    resident_bytes: int | None
    device: str
    memory_bytes: int = 0
    is_on_demand: bool = False

    @property
    def is_standing(self) -> bool:
        """Whether it is wanted even where no request asks for it."""
        return self.desired == Replica.Desired.RESIDENT and not self.is_on_demand


@dataclass(frozen=True)
class ModelStatus:
    """One model for lists: a version, the default unless another is asked for, and what is in
    memory of it."""

    model: Model
    version: ModelVersion | None
    replicas: list[ReplicaStatus]

    @property
    def status(self) -> str:
        """``loaded``, ``loading``, ``failed`` or ``available``.

        What has failed stays so until it is loaded again or somebody clears it.
        Of a version whose file is not there, and that is not in memory either, it is the state of
        the file: ``absent``, ``fetching`` or ``failed``. Replicas of other versions do not count.
        """
        if self.version is None:
            return "absent"
        own = self.of(self.version).replicas
        states = {replica.state for replica in own if replica.desired == "resident"}
        if states & {"ready"}:
            return "loaded"
        if states & {"starting", "loading", "stopped"}:
            return "loading"
        if any(replica.state == "failed" for replica in own):
            return "failed"
        file_state = self.version.file_state
        return "available" if file_state == ModelVersion.FileState.READY else file_state

    @property
    def capabilities(self) -> list[str]:
        """What the model can do with this version."""
        found = self.version.capabilities if self.version else []
        return capabilities_in_force(self.model.capabilities, found)

    def of(self, version: ModelVersion) -> "ModelStatus":
        """The model as far as one of its versions goes."""
        key = f"{self.model.slug}@{version.label}"
        own = [replica for replica in self.replicas if replica.version_key == key]
        return ModelStatus(self.model, version, own)


def spec_of(version: ModelVersion, models_dir: Path) -> ModelSpec:
    """The version as other apps see it."""
    draft = version.usable_draft
    path = path_below(models_dir, version.file_name)
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
        missing_file_state=_missing_file_state(version, path),
    )


def _missing_file_state(version: ModelVersion, path: Path) -> str:
    is_here = version.file_state == ModelVersion.FileState.READY and path.is_file()
    if is_here or version.replicas.filter(state=Replica.State.READY).exists():
        return ""
    is_lost = version.file_state == ModelVersion.FileState.READY
    return str(ModelVersion.FileState.ABSENT if is_lost else version.file_state)


def find_offer(name: str, models_dir: Path) -> Offer | None:
    """What a request may mean by ``name``, canaries among it.

    Args:
        name: ``model`` for its default version or a canary, or ``model@label``, which has none.
        models_dir: where the files are.

    Returns:
        The offer, or None when no such version is registered.
    """
    version = find_version(name)
    if version is None:
        return None
    spec = spec_of(version, models_dir)
    return Offer(spec) if name.partition("@")[2] else Offer(spec, _canaries(version, models_dir))


def _canaries(default: ModelVersion, models_dir: Path) -> tuple[tuple[int, ModelSpec], ...]:
    """Versions beside the default that get a share; one without its file would only fail."""
    versions = ModelVersion.objects.select_related("model", "draft_model").filter(
        model=default.model_id,
        is_default=False,
        is_deprecated=False,
        canary_percent__gt=0,
        file_state=ModelVersion.FileState.READY,
    )
    return tuple((version.canary_percent, spec_of(version, models_dir)) for version in versions)


def find_version(name: str) -> ModelVersion | None:
    """The row that ``name`` means: ``model`` for its default version, or ``model@label``."""
    slug, _, label = name.partition("@")
    versions = ModelVersion.objects.select_related("model", "draft_model")
    versions = versions.filter(model__slug=slug)
    return (versions.filter(label=label) if label else versions.filter(is_default=True)).first()


def model_statuses(slug: str | None = None) -> list[ModelStatus]:
    """All models, or the one named ``slug``, with their replicas."""
    models = Model.objects.prefetch_related("versions__draft_model__model")
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
            # The lines after the first are the end of a log, for administrators alone.
            reason=replica.reason.partition("\n")[0],
            load_fraction=replica.load_fraction,
            resident_bytes=replica.resident_bytes,
            device=replica.device,
            memory_bytes=_memory_bytes(replica),
            is_on_demand=replica.on_demand and not _is_standing(replica.version),
        )
        for replica in Replica.objects.select_related("version__model", "node")
    ]


def pinned_keys() -> set[str]:
    """Keys of the versions that are to be in memory at all times."""
    rows = ModelVersion.objects.filter(pinned=True)
    return {f"{slug}@{label}" for slug, label in rows.values_list("model__slug", "label")}


def _is_standing(version: ModelVersion) -> bool:
    return version.pinned or version.preload_workers > 0


def _memory_bytes(replica: Replica) -> int:
    if replica.state in (Replica.State.STOPPED, Replica.State.FAILED):
        return 0
    return sum(replica.needed_bytes.values())
