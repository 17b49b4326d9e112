"""Status of models and replicas, for lists and health checks."""

from dataclasses import dataclass

from models_registry.models import Model, ModelVersion, Replica
from models_registry.rules.capabilities import capabilities_in_force


@dataclass(frozen=True)
class ReplicaStatus:
    """One replica; ``memory_bytes`` is reserved for it while it runs."""

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
        """Whether it stays in memory without requests."""
        return self.desired == Replica.Desired.RESIDENT and not self.is_on_demand


@dataclass(frozen=True)
class ModelStatus:
    """``version`` is the default version unless another was asked for."""

    model: Model
    version: ModelVersion | None
    replicas: list[ReplicaStatus]

    @property
    def status(self) -> str:
        """``loaded``, ``loading``, ``failed``, ``available`` or the state of a missing file."""
        if self.version is None:
            return str(ModelVersion.FileState.ABSENT)
        own = self.of(self.version).replicas
        states = {one.state for one in own if one.desired == Replica.Desired.RESIDENT}
        if Replica.State.READY in states:
            return "loaded"
        if states & {Replica.State.STARTING, Replica.State.LOADING, Replica.State.STOPPED}:
            return "loading"
        if any(replica.state == Replica.State.FAILED for replica in own):
            return "failed"
        file_state = self.version.file_state
        return "available" if file_state == ModelVersion.FileState.READY else file_state

    @property
    def capabilities(self) -> list[str]:
        found = self.version.capabilities if self.version else []
        return capabilities_in_force(self.model.capabilities, found)

    def of(self, version: ModelVersion) -> "ModelStatus":
        """The status of another version of the model."""
        key = f"{self.model.slug}@{version.label}"
        own = [replica for replica in self.replicas if replica.version_key == key]
        return ModelStatus(self.model, version, own)


def model_statuses(slug: str | None = None) -> list[ModelStatus]:
    """All models, or the one named ``slug``, each with its default version."""
    models = Model.objects.prefetch_related("versions__draft_model__model", "versions__prices")
    if slug is not None:
        models = models.filter(slug=slug)
    replicas = replica_statuses()
    statuses = []
    for model in models:
        keys = {f"{model.slug}@{v.label}" for v in model.versions.all()}
        own = [replica for replica in replicas if replica.version_key in keys]
        statuses.append(ModelStatus(model, model.default_version, own))
    return statuses


def replica_statuses() -> list[ReplicaStatus]:
    """Every replica, desired or not."""
    return [
        ReplicaStatus(
            version_key=replica.version.key,
            node=replica.node.name,
            desired=replica.desired,
            state=replica.state,
            # Lines after the first are the end of a log, which is for administrators only.
            reason=replica.reason.partition("\n")[0],
            load_fraction=replica.load_fraction,
            resident_bytes=replica.resident_bytes,
            device=replica.device,
            memory_bytes=0
            if replica.state in (Replica.State.STOPPED, Replica.State.FAILED)
            else sum(replica.needed_bytes.values()),
            is_on_demand=replica.on_demand
            and not (replica.version.pinned or replica.version.preload_workers > 0),
        )
        for replica in Replica.objects.select_related("version__model", "node")
    ]


def pinned_keys() -> set[str]:
    rows = ModelVersion.objects.filter(pinned=True)
    return {f"{slug}@{label}" for slug, label in rows.values_list("model__slug", "label")}
