"""Nodes, and the desired and observed replicas on them."""

from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import models

from models_registry.models.catalogue import ModelVersion
from models_registry.models.runtime import validate_device
from models_registry.rules.replica_state import ReplicaState

# Of main memory; the operating system, the databases and the web process get the rest.
DEFAULT_MEMORY_SHARE: Final = 0.8


def validate_budgets(value: Any) -> None:
    if not isinstance(value, dict):
        raise ValidationError('Write bytes per device, such as {"cpu": 8000000000}.')
    for name, count in value.items():
        validate_device(name)
        if name == "auto" or isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValidationError(f"{name!r}: write a device and a number of bytes, 0 or more.")


class Node(models.Model):
    """A machine that runs a cluster of model hosts."""

    name = models.CharField(max_length=100, unique=True)
    max_replicas = models.PositiveSmallIntegerField(default=4)
    cpu_count = models.PositiveSmallIntegerField("CPUs", null=True, blank=True, editable=False)
    memory_bytes = models.BigIntegerField(null=True, blank=True, editable=False)
    cpu_features = models.JSONField(
        default=list, editable=False, help_text="What llama.cpp was built for and found."
    )
    devices = models.JSONField(
        default=list, editable=False, help_text="What it can compute on, with its memory in bytes."
    )
    device_budgets = models.JSONField(
        default=dict,
        blank=True,
        validators=[validate_budgets],
        help_text='Bytes for models, such as {"cpu": 8000000000, "cuda:0": 16000000000}. Other '
        "devices follow INFERENCE_MEMORY_BUDGET_BYTES and their size.",
    )
    seen_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def budgets(self) -> dict[str, int]:
        budgets = {device["name"]: int(device["budget_bytes"]) for device in self.devices}
        if not budgets and self.memory_bytes:
            # It was registered by a release that did not report devices.
            budgets = {"cpu": int(self.memory_bytes * DEFAULT_MEMORY_SHARE)}
        return budgets | {name: int(count) for name, count in self.device_budgets.items()}


class Replica(models.Model):
    """One copy of a version on one node, with the ``desired`` and the observed ``state``.

    Each launch has an id, so that a late or fenced host cannot update the row of its successor.
    """

    class Desired(models.TextChoices):
        RESIDENT = "resident"
        ABSENT = "absent"

    State = ReplicaState

    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="replicas")
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="replicas")
    desired = models.CharField(max_length=10, choices=Desired.choices, default=Desired.RESIDENT)
    state = models.CharField(
        max_length=10, choices=State.choices, default=State.STOPPED, editable=False
    )
    state_since = models.DateTimeField(auto_now_add=True)
    reason = models.TextField(blank=True, editable=False, help_text="Why it is in this state.")
    load_fraction = models.FloatField(default=0.0, editable=False)
    launch_id = models.UUIDField(null=True, editable=False)
    process_id = models.PositiveIntegerField(null=True, editable=False)
    crashes = models.PositiveSmallIntegerField(
        default=0, editable=False, help_text="Consecutive launches that failed."
    )
    resident_bytes = models.BigIntegerField(null=True, editable=False)
    device = models.CharField(
        max_length=200, blank=True, editable=False, help_text="The device that is used."
    )
    placed_on = models.CharField(
        max_length=20, default="auto", editable=False, help_text="The device that was requested."
    )
    on_demand = models.BooleanField(
        default=False, editable=False, help_text="Loaded for requests, not by a person."
    )
    load_failed = models.BooleanField(
        default=False, editable=False, help_text="It could not be loaded, rather than died."
    )
    loaded_options = models.CharField(
        max_length=300,
        blank=True,
        editable=False,
        help_text="The options it was loaded with, as a footprint names them.",
    )
    needed_bytes = models.JSONField(
        default=dict, editable=False, help_text="Bytes by device that were set aside for it."
    )

    class Meta:
        ordering = ["version", "node", "id"]

    def __str__(self) -> str:
        return f"{self.version.key} on {self.node.name}"
