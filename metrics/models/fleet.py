"""The fleet over time."""

from django.db import models


class FleetSample(models.Model):
    """The memory that a version held on a node at a moment, and loads since the last sample."""

    taken_at = models.DateTimeField(db_index=True)
    node = models.CharField(max_length=100)
    version_key = models.CharField(max_length=160)
    resident_bytes = models.BigIntegerField()
    loads = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.node} {self.version_key} {self.taken_at:%Y-%m-%d %H:%M}"
