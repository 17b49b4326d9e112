"""Registrations: references of programs to versions."""

import uuid
from typing import Final

from django.db import models
from django.utils import timezone

from models_registry.models.catalogue import ModelVersion

MAX_NAME: Final = 200  # characters


class Registration(models.Model):
    """A requester's reference to a version, under a name that the requester chose.

    It counts until ``released_at`` is set, also across restarts. A new default version does not
    change it, since embeddings of different versions cannot be compared.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    model_id = models.CharField(
        max_length=MAX_NAME,
        help_text="The requester's name for the model; not unique.",
    )
    requester = models.CharField(max_length=MAX_NAME, help_text="The program that registered.")
    requirement = models.JSONField(help_text="The registered requirement.")
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
        return self.released_at is None
