"""Routes of requests: task types to roles, roles to participants, models to fallbacks."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from models_registry.rules.mode_settings import OrchestrationMode
from models_registry.rules.roles import Participant, Role


def validate_roles(value: Any) -> None:
    if not isinstance(value, list) or not all(role in Role.values for role in value):
        raise ValidationError(f"Write a list of {', '.join(Role.values)}.")
    if len(set(value)) < len(value):
        raise ValidationError("Name each role once.")


class TaskRoute(models.Model):
    """The role for a type of task; the row ``default`` is for all types without a row."""

    task_type = models.SlugField(max_length=50, unique=True)
    role = models.CharField(max_length=10, choices=Role.choices)
    fallback_role = models.CharField(
        max_length=10,
        choices=Role.choices,
        blank=True,
        help_text="Used where no model has the role; empty for any model.",
    )

    class Meta:
        ordering = ["task_type"]

    def __str__(self) -> str:
        return f"{self.task_type} to {self.role}"


class RoleAssignment(models.Model):
    """The participant that models of a role are in a mode, unless a preset decides."""

    mode = models.CharField(max_length=10, choices=OrchestrationMode.choices)
    role = models.CharField(max_length=10, choices=Role.choices)
    participant = models.CharField(max_length=12, choices=Participant.choices)
    own_tasks_only = models.BooleanField(
        default=False, help_text="Only for types of task that are routed to this role."
    )

    class Meta:
        ordering = ["mode", "role", "participant"]
        constraints = [
            models.UniqueConstraint(
                fields=["mode", "role", "participant"], name="one_assignment_per_participant"
            )
        ]

    def __str__(self) -> str:
        return f"{self.role} as {self.participant} in {self.mode}"


class Fallback(models.Model):
    """A model that answers in place of another; tried in order of ``position``."""

    model = models.ForeignKey(
        "models_registry.Model", on_delete=models.CASCADE, related_name="fallbacks"
    )
    position = models.PositiveSmallIntegerField(default=0)
    target = models.ForeignKey(
        "models_registry.Model", on_delete=models.CASCADE, related_name="fallback_for"
    )

    class Meta:
        ordering = ["model", "position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["model", "target"], name="one_fallback_per_target")
        ]

    def __str__(self) -> str:
        return f"{self.target.slug} for {self.model.slug}"

    def clean(self) -> None:
        super().clean()
        if not (self.target_id and self.model_id):
            return
        if self.target_id == self.model_id:
            raise ValidationError({"target": "A model cannot be its own fallback."})
        if self.target.type != self.model.type:
            raise ValidationError(
                {"target": f"{self.target} is of type {self.target.type}, not {self.model.type}."}
            )
