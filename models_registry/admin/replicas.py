"""Replicas in the admin: what is in memory where; to read, but for load and unload."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import BaseDialogForm

from models_registry.admin.base import ReadOnlyAdmin, RegistryAdmin
from models_registry.admin.display import NOTHING, STATE_LABELS, duration, link, size
from models_registry.errors import RegistryError
from models_registry.fleet import desired
from models_registry.fleet.live_figures import HostFigures, Subjects, read_figures
from models_registry.models import Replica


@admin.register(Replica)
class ReplicaAdmin(ReadOnlyAdmin, RegistryAdmin):
    """What is in memory where, as the hosts report it.

    A row that is deleted would leave its process to nobody: replicas are unloaded.
    """

    list_display = ("of_version", "node", "wanted", "live_state", "why", "memory", "for_how_long")
    list_display_links = None
    list_filter = ("state", "desired", "node")
    list_select_related = ("version__model", "node")
    search_fields = ("version__model__slug", "node__name")
    readonly_fields = ("version_link", "live_state", "now", "loaded", "memory", "set_aside")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    *(("version_link", "node"), ("desired", "on_demand")),
                    *(("live_state", "state_since"), "reason", "loaded", "now"),
                )
            },
        ),
        (
            "Process",
            {
                "fields": (
                    *(("device", "placed_on"), ("memory", "set_aside")),
                    *(("process_id", "crashes"), "launch_id"),
                )
            },
        ),
    )
    actions_row = actions_detail = ("load", "unload")

    @display(description="replica", ordering="version")
    def of_version(self, replica: Replica) -> SafeString:
        """Its page."""
        return link(replica, replica.version.key)

    @display(description="version")
    def version_link(self, replica: Replica) -> SafeString:
        """The version's page."""
        return link(replica.version)

    @display(description="wanted", ordering="desired")
    def wanted(self, replica: Replica) -> str:
        """Whether it should be in memory, and for whom."""
        if replica.desired == Replica.Desired.ABSENT:
            return "no"
        return "by requests" if replica.on_demand else "yes"

    @display(description="state", label=STATE_LABELS, ordering="state")
    def live_state(self, replica: Replica) -> str:
        """Where it is now."""
        return replica.state

    @display(description="loaded")
    def loaded(self, replica: Replica) -> str:
        """How much of it is in memory."""
        return f"{replica.load_fraction:.0%}"

    @display(description="reason")
    def why(self, replica: Replica) -> str:
        """Why it is in this state."""
        return replica.reason or NOTHING

    @display(description="memory", ordering="resident_bytes")
    def memory(self, replica: Replica) -> str:
        """What loading it took."""
        return size(replica.resident_bytes)

    @display(description="set aside")
    def set_aside(self, replica: Replica) -> str:
        """What it counts for in the budgets of its node."""
        held = [f"{size(count)} ({name})" for name, count in replica.needed_bytes.items()]
        return ", ".join(held) or NOTHING

    @display(description="for", ordering="-state_since")
    def for_how_long(self, replica: Replica) -> str:
        """Time in this state."""
        return duration((timezone.now() - replica.state_since).total_seconds())

    @display(description="now")
    def now(self, replica: Replica) -> str:
        """What its host does at the moment."""
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

    @action(
        description="Load",
        icon="play_arrow",
        permissions=["operate"],
        dialog={
            "title": "Load it again?",
            "description": "One that gave up gets a fresh chance.",
            "form_submit_text": "Load",
            "form_class": BaseDialogForm,
        },
    )
    def load(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Want it in memory."""
        replica = self.row(object_id)
        try:
            desired.load(replica.version, replica.node, request.user)
        except RegistryError as error:
            self.refuse(request, f"{replica} cannot be loaded. {error}")
        else:
            self.message_user(request, f"{replica} is being loaded.", messages.SUCCESS)
        return self.back(request, reverse("admin:models_registry_replica_changelist"))

    @action(
        description="Unload",
        icon="stop",
        permissions=["operate"],
        variant=ActionVariant.DANGER,
        dialog={
            "title": "Unload this replica?",
            "description": "What runs on it finishes first.",
            "form_submit_text": "Unload",
            "form_class": BaseDialogForm,
        },
    )
    def unload(self, request: HttpRequest, form: BaseDialogForm, object_id: str) -> HttpResponse:
        """Want it out of memory."""
        replica = self.row(object_id)
        try:
            desired.unload_replicas([replica], request.user)
        except RegistryError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(request, f"{replica} is being unloaded.", messages.SUCCESS)
        return self.back(request, reverse("admin:models_registry_replica_changelist"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Replica]:
        """With versions and nodes."""
        found: QuerySet[Replica] = super().get_queryset(request)
        return found.select_related("version__model", "node")
