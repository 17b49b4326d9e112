"""Nodes in the admin, with their memory budgets; they register themselves."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.views import ChangeList

from models_registry.admin.base import DeletableAdmin, RowForm
from models_registry.admin.display import NOTHING, STATE_COLOURS, size, table
from models_registry.admin.fields import BudgetsField
from models_registry.fleet.live_figures import Subjects, read_figures
from models_registry.fleet.overview import node_state
from models_registry.models import Node, Replica


class NodeForm(RowForm):
    device_budgets = BudgetsField(
        help_text="Memory for models, one device per line, such as cpu: 8 GiB. Other devices "
        "follow INFERENCE_MEMORY_BUDGET_BYTES and their size."
    )

    class Meta:
        model = Node
        fields = ("device_budgets", "max_replicas")


class NodeChangeList(ChangeList):
    def get_results(self, request: HttpRequest) -> None:
        """Read once for all rows whether their clusters answer."""
        super().get_results(request)
        figures = read_figures(Subjects((), (), [node.name for node in self.result_list]))
        for node in self.result_list:
            answers = "answers" if node.name in figures.alive_nodes else "silent"
            node.shown_cluster = "unknown" if figures.fault else answers


@admin.register(Node)
class NodeAdmin(DeletableAdmin):
    list_display = ("name", "cluster", "cpu_count", "memory", "max_replicas", "seen_at")
    form = NodeForm
    # Its cluster registers under the name.
    readonly_fields = ("name", "cpu_count", "memory", "features", "seen_at", "device_table")
    fieldsets = (
        (None, {"fields": ("name", ("cpu_count", "memory"), "features", "seen_at")}),
        ("Memory for models", {"fields": ("device_table", "device_budgets", "max_replicas")}),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NodeChangeList

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @display(description="memory", ordering="memory_bytes")
    def memory(self, node: Node) -> str:
        return size(node.memory_bytes)

    @display(description="CPU features")
    def features(self, node: Node) -> str:
        return ", ".join(node.cpu_features) or NOTHING

    @display(description="cluster", label=STATE_COLOURS)
    def cluster(self, node: Node) -> str:
        return str(getattr(node, "shown_cluster", ""))

    @display(description="devices")
    def device_table(self, node: Node) -> SafeString:
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
