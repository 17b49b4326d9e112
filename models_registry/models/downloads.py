"""Downloads of versions' files."""

import uuid
from typing import Final

from django.conf import settings
from django.db import models

from models_registry.models.catalogue import ModelVersion


def _user() -> models.ForeignKey:
    return models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
    )


class Download(models.Model):
    """A request to download the file of a version.

    A process claims the row by writing its ``run_id``, and only the process with that id may
    update it. If ``seen_at`` becomes too old, another process claims the row.
    """

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="downloads")
    requested_by = _user()
    cancelled_by = _user()
    state = models.CharField(
        max_length=10, choices=State.choices, default=State.QUEUED, editable=False
    )
    phase = models.CharField(
        max_length=20, blank=True, editable=False, help_text="The current step."
    )
    done_bytes = models.BigIntegerField(default=0, editable=False)
    total_bytes = models.BigIntegerField(null=True, editable=False)
    bytes_per_second = models.BigIntegerField(null=True, editable=False)
    error = models.TextField(blank=True, editable=False)
    losses = models.PositiveSmallIntegerField(
        "attempts whose process died", default=0, editable=False
    )
    run_id = models.UUIDField(null=True, editable=False)
    requested_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, editable=False)
    seen_at = models.DateTimeField(
        null=True, editable=False, help_text="Last sign of life of the attempt."
    )
    finished_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-requested_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["version"],
                condition=models.Q(state__in=["queued", "running"]),
                name="one_download_per_version_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version.key}: {self.state}"

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @property
    def eta_seconds(self) -> float | None:
        """Time left at the present speed; None if unknown."""
        if self.state != self.State.RUNNING or not self.total_bytes or not self.bytes_per_second:
            return None
        return max(0, self.total_bytes - self.done_bytes) / self.bytes_per_second


ACTIVE: Final = (Download.State.QUEUED, Download.State.RUNNING)
