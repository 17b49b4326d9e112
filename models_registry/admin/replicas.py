"""Replicas in the admin: their state and memory, load and unload."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from models_registry.admin import columns
from models_registry.admin.base import ReadOnlyAdmin, RegistryAdmin
from models_registry.admin.dialogs import dialog_action
from models_registry.admin.display import NOTHING, duration, link, size, sizes
from models_registry.errors import RegistryError
from models_registry.fleet import desired
from models_registry.fleet.live_figures import HostFigures, Subjects, read_figures
from models_registry.models import Replica


@admin.register(Replica)
class ReplicaAdmin(ReadOnlyAdmin, RegistryAdmin):
    """Rows cannot be deleted, since their processes would run on: replicas are unloaded."""

    list_display = (
        *(
            "replica",
            "node",
            "wanted",
            columns.state,
            "reason",
            "memory",
            "time_in_state",
        ),
    )
    list_display_links = None
    list_filter = ("state", "desired", "node")
    search_fields = ("version__model__slug", "node__name")
    readonly_fields = (
        *(columns.version_link, columns.state, columns.loaded, "now", "memory", "reserved"),
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    *((columns.version_link, "node"), ("desired", "on_demand")),
                    *((columns.state, "state_since"), "reason", columns.loaded, "now"),
                )
            },
        ),
        (
            "Process",
            {
                "fields": (
                    *(("device", "placed_on"), ("memory", "reserved")),
                    *(("process_id", "crashes"), "launch_id"),
                )
            },
        ),
    )
    actions_row = actions_detail = ("load", "unload")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Replica]:
        return super().get_queryset(request).select_related("version__model", "node")

    @display(description="replica", ordering="version")
    def replica(self, replica: Replica) -> SafeString:
        return link(replica, replica.version.key)

    @display(description="desired", ordering="desired")
    def wanted(self, replica: Replica) -> str:
        if replica.desired == Replica.Desired.ABSENT:
            return "no"
        return "by requests" if replica.on_demand else "yes"

    @display(description="memory", ordering="resident_bytes")
    def memory(self, replica: Replica) -> str:
        """Measured after loading."""
        return size(replica.resident_bytes)

    @display(description="reserved memory")
    def reserved(self, replica: Replica) -> str:
        return sizes(replica.needed_bytes.items()) or NOTHING

    @display(description="time in state", ordering="-state_since")
    def time_in_state(self, replica: Replica) -> str:
        return duration((timezone.now() - replica.state_since).total_seconds())

    @display(description="now")
    def now(self, replica: Replica) -> str:
        launch = str(replica.launch_id)
        figures = read_figures(Subjects((launch,), (replica.version.key,), ()))
        if figures.fault:
            return figures.fault
        host = figures.hosts.get(launch, HostFigures())
        queued = figures.queued.get(replica.version.key, 0)
        return (
            f"{host.running} running, {queued} in the queue of its version, "
            f"{host.tokens_per_second:.0f} tokens per second"
        )

    @dialog_action(
        "Load",
        icon="play_arrow",
        title="Load this replica again?",
        text="A failed replica is started again.",
    )
    def load(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        replica = self.row(object_id)
        try:
            desired.load(replica.version, replica.node, request.user)
        except RegistryError as error:
            self.refuse(request, f"{replica} cannot be loaded. {error}")
        else:
            self.tell(request, f"{replica} is being loaded.")
        return self.back(request)

    @dialog_action(
        "Unload",
        icon="stop",
        title="Unload this replica?",
        text="Running requests finish first.",
        variant=ActionVariant.DANGER,
    )
    def unload(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        replica = self.row(object_id)
        with self.refusals(request):
            desired.unload_replicas([replica], request.user)
            self.tell(request, f"{replica} is being unloaded.")
        return self.back(request)
