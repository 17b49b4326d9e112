"""Nodes and the replicas on them: what should be in memory, and what is."""

from django.db import models

from models_registry.models.catalogue import ModelVersion


class Node(models.Model):
    """A machine that runs a cluster of model hosts."""

    name = models.CharField(max_length=100, unique=True)
    max_replicas = models.PositiveSmallIntegerField(default=4)
    cpu_count = models.PositiveSmallIntegerField(null=True, blank=True, editable=False)
    memory_bytes = models.BigIntegerField(null=True, blank=True, editable=False)
    seen_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Replica(models.Model):
    """One copy of a version on one node: the wish (``desired``) and the observation (``state``).

    Each attempt to run it is a launch with an id of its own, so that a late start or a host that
    was given up for dead cannot act for its successor.
    """

    class Desired(models.TextChoices):
        RESIDENT = "resident"
        ABSENT = "absent"

    class State(models.TextChoices):
        STOPPED = "stopped"
        STARTING = "starting"
        LOADING = "loading"
        READY = "ready"
        DRAINING = "draining"
        FAILED = "failed"

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
        default=0, editable=False, help_text="Launches in a row that died."
    )
    resident_bytes = models.BigIntegerField(null=True, editable=False)
    device = models.CharField(
        max_length=200, blank=True, editable=False, help_text="What it computes on."
    )

    class Meta:
        ordering = ["version", "node", "id"]

    def __str__(self) -> str:
        return f"{self.version.key} on {self.node.name}"
