"""The fleet over time."""

from django.db import models


class FleetSample(models.Model):
    """The memory that a version held on a node at a moment, and loads since the last sample."""

    taken_at = models.DateTimeField()
    node = models.CharField(max_length=100)
    version_key = models.CharField(max_length=160)
    resident_bytes = models.BigIntegerField()
    loads = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["taken_at", "node", "version_key"], name="one_sample_at_a_time"
            )
        ]

    def __str__(self) -> str:
        return f"{self.node} {self.version_key} {self.taken_at:%Y-%m-%d %H:%M}"
