"""Nodes in the admin: machines with a cluster of model hosts, and what models may take there."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.views import ChangeList

from models_registry.admin.deletion import Deletion
from models_registry.admin.display import NOTHING, STATE_LABELS, size, table
from models_registry.admin.fields import BudgetsField
from models_registry.admin.forms import RowForm
from models_registry.fleet.live_figures import Subjects, read_figures
from models_registry.fleet.overview import node_state
from models_registry.models import Node, Replica


class NodeForm(RowForm):
    """Budgets are written in GiB."""

    device_budgets = BudgetsField(
        help_text="What models may take, a device on each line, such as cpu: 8 GiB. A device that "
        "is not named goes by INFERENCE_MEMORY_BUDGET_BYTES and its size."
    )

    class Meta:
        model = Node
        fields = ("device_budgets", "max_replicas")


class NodeChangeList(ChangeList):
    """Knows of each node shown whether its cluster answers, from one look."""

    def get_results(self, request: HttpRequest) -> None:
        """Look once for all rows of the page."""
        super().get_results(request)
        figures = read_figures(Subjects((), (), [node.name for node in self.result_list]))
        for node in self.result_list:
            answers = "answers" if node.name in figures.alive_nodes else "silent"
            node.shown_cluster = "unknown" if figures.fault else answers


@admin.register(Node)
class NodeAdmin(Deletion):
    """They enter themselves when their cluster starts."""

    list_display = ("name", "cluster", "cpu_count", "memory", "max_replicas", "seen_at")
    form = NodeForm
    readonly_fields = ("cpu_count", "memory", "features", "seen_at", "device_table")
    fieldsets = (
        (None, {"fields": ("name", ("cpu_count", "memory"), "features", "seen_at")}),
        ("What models may take", {"fields": ("device_table", "device_budgets", "max_replicas")}),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """One that knows which nodes answer."""
        return NodeChangeList

    @display(description="memory", ordering="memory_bytes")
    def memory(self, node: Node) -> str:
        """Of the machine, or of the container it is."""
        return size(node.memory_bytes)

    @display(description="CPU features")
    def features(self, node: Node) -> str:
        """What llama.cpp was built for and found."""
        return ", ".join(node.cpu_features) or NOTHING

    @display(description="cluster", label=STATE_LABELS)
    def cluster(self, node: Node) -> str:
        """Whether it takes tasks."""
        return str(getattr(node, "shown_cluster", ""))

    @display(description="devices")
    def device_table(self, node: Node) -> SafeString:
        """What each device holds at the moment."""
        replicas = Replica.objects.select_related("version__model", "node").filter(node=node)
        devices = node_state(node, list(replicas), is_alive=True).devices
        return table(
            ("device", "memory", "for models", "used", "reserved", "free"),
            [
                (
                    one.name,
                    size(one.memory_bytes),
                    size(one.budget_bytes),
                    size(one.used_bytes),
                    size(one.reserved_bytes),
                    size(max(0, one.free_bytes)),
                )
                for one in devices
            ],
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Its cluster calls it by its name."""
        return (*self.readonly_fields, "name")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A machine enters itself."""
        return False
