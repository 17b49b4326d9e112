"""Models, versions, nodes and replicas in the admin, with load and unload."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html
from django_q.tasks import async_task
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action, display

from models_registry import services
from models_registry.models import Model, ModelVersion, Node, Replica, Source

JOBS_CLUSTER = "jobs"
_STATE_LABELS = {
    "ready": "success",
    "loading": "info",
    "starting": "info",
    "draining": "warning",
    "failed": "danger",
    "absent": "warning",
    "fetching": "info",
}


def format_bytes(count: int | None) -> str:
    """``98.4 MB``, or a hyphen."""
    if not count:
        return "-"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


class VersionInline(TabularInline):
    """A model's versions, to see; they are edited on their own page."""

    model = ModelVersion
    extra = 0
    fields = ("label", "is_default", "file_name", "quantisation", "file_state")
    readonly_fields = ("quantisation", "file_state")
    show_change_link = True


@admin.register(Model)
class ModelAdminPage(ModelAdmin):
    """Models as clients name them."""

    list_display = ("slug", "name", "type", "licence", "default_version")
    list_filter = ("type",)
    search_fields = ("slug", "name")
    inlines = (VersionInline,)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The id names queues and records: it stays what it was when the model was added."""
        return ("slug",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not while a version of it may be in memory."""
        loaded = Replica.objects.exclude(state=Replica.State.STOPPED)
        if obj is not None:
            loaded = loaded.filter(version__model=obj)
        return super().has_delete_permission(request, obj) and not loaded.exists()

    @display(description="default version")
    def default_version(self, model: Model) -> str:
        """The version that requests get."""
        version = model.versions.filter(is_default=True).first()
        return version.label if version else "none"


class SourceInline(TabularInline):
    """Where the file comes from."""

    model = Source
    extra = 0


class ReplicaInline(TabularInline):
    """Where the version is in memory, to see."""

    model = Replica
    extra = 0
    can_delete = False
    fields = readonly_fields = ("node", "desired", "state", "device", "reason", "load_fraction")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Replicas are made by loading."""
        return False


@admin.register(ModelVersion)
class ModelVersionAdmin(ModelAdmin):
    """Versions with their file, their sources and where they are loaded."""

    list_display = ("key", "is_default", "quantisation", "size", "file", "in_memory")
    list_filter = ("model", "file_state")
    search_fields = ("model__slug", "label")
    list_select_related = ("model",)
    readonly_fields = (
        "file_state",
        "file_error",
        "architecture",
        "quantisation",
        "embedding_dimensions",
        "vocabulary_size",
    )
    fieldsets = (
        (None, {"fields": ("model", "label", "is_default")}),
        (
            "File",
            {
                "fields": (
                    *("file_name", "file_state", "file_error", "sha256", "size_bytes"),
                    *("architecture", "quantisation", "context_length_tokens"),
                    *("embedding_dimensions", "vocabulary_size"),
                )
            },
        ),
        ("Prompts and sampling", {"fields": ("chat_template", "default_sampling")}),
        ("Capacity", {"fields": ("kv_cells", "max_sequences")}),
        (
            "Computing",
            {
                "fields": (
                    *("threads", "device", "gpu_layers", "tensor_split"),
                    *("flash_attention", "cache_type_k", "cache_type_v"),
                ),
                "description": "Changes take effect when the version is loaded again.",
            },
        ),
        ("Speculative decoding", {"fields": ("draft_model", "speculation")}),
    )
    inlines = (SourceInline, ReplicaInline)
    actions = ("fetch_files", "load_versions", "unload_versions", "make_default")

    @display(description="size", ordering="size_bytes")
    def size(self, version: ModelVersion) -> str:
        """Bytes of the file."""
        return format_bytes(version.size_bytes)

    @display(description="file", label=_STATE_LABELS)
    def file(self, version: ModelVersion) -> str:
        """Whether the file is here."""
        return version.file_state

    @display(description="in memory", label=_STATE_LABELS)
    def in_memory(self, version: ModelVersion) -> str:
        """States of the replicas."""
        states = [replica.state for replica in version.replicas.all()]
        return "ready" if "ready" in states else states[0] if states else "not loaded"

    @action(description="Load")
    def load_versions(self, request: HttpRequest, versions: QuerySet[ModelVersion]) -> None:
        """Want a replica of each selected version."""
        for version in versions:
            if version.file_state != ModelVersion.FileState.READY:
                self.message_user(
                    request,
                    f"{version}: its file is {version.file_state}. Fetch it first.",
                    messages.ERROR,
                )
                continue
            try:
                node = services.pick_node()
                services.load(version, node)
            except services.RegistryError as error:
                self.message_user(request, f"{version}: {error}", messages.ERROR)
            else:
                self.message_user(request, f"{version} is being loaded on {node}.")

    @action(description="Fetch the file")
    def fetch_files(self, request: HttpRequest, versions: QuerySet[ModelVersion]) -> None:
        """Hand the download to the jobs cluster."""
        for version in versions:
            async_task("models_registry.tasks.fetch_version_file", version.pk, cluster=JOBS_CLUSTER)
            self.message_user(request, f"The file of {version} is being fetched.")

    @action(description="Unload everywhere")
    def unload_versions(self, request: HttpRequest, versions: QuerySet[ModelVersion]) -> None:
        """Want no replica of the selected versions; running work finishes first."""
        for version in versions:
            count = services.unload(version)
            self.message_user(request, f"{version}: {count} replica(s) are being unloaded.")

    @action(description="Make default version of its model")
    def make_default(self, request: HttpRequest, versions: QuerySet[ModelVersion]) -> None:
        """Requests that name only the model get this version from now on."""
        for version in versions:
            services.set_default(version)
            self.message_user(request, f"{version} is the default of {version.model}.")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """The key names queues and records: it stays what it was when the version was added."""
        return (*self.readonly_fields, "model", "label") if obj else self.readonly_fields

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not while a replica of it may be in memory."""
        return super().has_delete_permission(request, obj) and not _in_memory(obj)

    def save_model(
        self, request: HttpRequest, version: ModelVersion, form: ModelForm, change: bool
    ) -> None:
        """Save; a new default takes the place of the old one instead of a constraint error."""
        if version.is_default:
            others = ModelVersion.objects.filter(model=version.model).exclude(pk=version.pk)
            others.update(is_default=False)
        super().save_model(request, version, form, change)


def _in_memory(version: ModelVersion | None) -> bool:
    if version is None:
        return Replica.objects.exclude(state=Replica.State.STOPPED).exists()
    return version.replicas.exclude(state=Replica.State.STOPPED).exists()


@admin.register(Node)
class NodeAdmin(ModelAdmin):
    """Machines with a cluster of model hosts."""

    list_display = ("name", "cpu_count", "memory", "max_replicas", "seen_at")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Only a node without replicas."""
        empty = obj is None or not obj.replicas.exists()
        return super().has_delete_permission(request, obj) and empty and obj is not None

    readonly_fields = ("cpu_count", "memory_bytes", "seen_at")

    @display(description="memory")
    def memory(self, node: Node) -> str:
        """Physical memory."""
        return format_bytes(node.memory_bytes)


@admin.register(Replica)
class ReplicaAdmin(ModelAdmin):
    """What is in memory where, as the hosts report it."""

    list_display = ("version", "node", "wanted", "live_state", "memory", "crashes", "state_since")
    list_filter = ("state", "node")
    list_select_related = ("version__model", "node")
    readonly_fields = (
        "version",
        "node",
        "state",
        "state_since",
        "reason",
        "load_fraction",
        "process_id",
        "launch_id",
        "crashes",
        "resident_bytes",
        "device",
    )
    actions = ("load_replicas", "unload_replicas")

    @display(description="wanted", ordering="desired")
    def wanted(self, replica: Replica) -> str:
        """Whether it should be in memory."""
        return replica.desired

    @display(description="state", label=_STATE_LABELS, ordering="state")
    def live_state(self, replica: Replica) -> str:
        """Where it is now."""
        return replica.state

    @display(description="memory", ordering="resident_bytes")
    def memory(self, replica: Replica) -> str:
        """What loading it took."""
        return format_html(
            "<span title='measured after the load'>{}</span>",
            format_bytes(replica.resident_bytes),
        )

    @action(description="Load")
    def load_replicas(self, request: HttpRequest, replicas: QuerySet[Replica]) -> None:
        """Want them in memory; one that gave up starts afresh."""
        for replica in replicas:
            try:
                services.load(replica.version, replica.node)
            except services.RegistryError as error:
                self.message_user(request, f"{replica}: {error}", messages.ERROR)
            else:
                self.message_user(request, f"{replica} is being loaded.")

    @action(description="Unload")
    def unload_replicas(self, request: HttpRequest, replicas: QuerySet[Replica]) -> None:
        """Want them out of memory; running work finishes first."""
        count = replicas.update(desired=Replica.Desired.ABSENT)
        self.message_user(request, f"{count} replica(s) are being unloaded.")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Replicas are made by loading a version."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """They are unloaded; a row that is gone would leave its process to nobody."""
        return False
