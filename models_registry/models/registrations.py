"""Registrations: counted claims of programs on versions."""

import uuid
from typing import Final

from django.db import models
from django.utils import timezone

from models_registry.models.catalogue import ModelVersion

MAX_NAME: Final = 200
"""Characters of what a requester calls a model, and itself."""


class Registration(models.Model):
    """One reference of a requester to a version, under a name of the requester's choosing.

    It holds until ``released_at`` is set, across restarts; registered again, the row counts again.
    The version is the one that the requirement's name meant at registration: embeddings of two
    versions cannot be compared, so a new default does not move it.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model_id = models.CharField(
        max_length=MAX_NAME, help_text="What the requester calls it; several may share one."
    )
    requester = models.CharField(max_length=MAX_NAME, help_text="The program that asked.")
    requirement = models.JSONField(help_text="What was asked for.")
    version = models.ForeignKey(
        ModelVersion, on_delete=models.CASCADE, related_name="registrations"
    )
    since = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    released_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-since"]
        constraints = [
            models.UniqueConstraint(
                fields=["model_id", "requester"], name="one_registration_per_requester"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model_id} for {self.requester}"

    @property
    def is_active(self) -> bool:
        """Whether it still counts as a reference."""
        return self.released_at is None
