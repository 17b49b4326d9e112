"""Which model a request means that names none: roles, the task types they do, and fallbacks."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import models


class Role(models.TextChoices):
    """What a model is good for."""

    PRIMARY = "primary"
    FAST = "fast"
    CODER = "coder"
    THINKER = "thinker"
    LONGCTX = "longctx"


class OrchestrationMode(models.TextChoices):
    """How the models of one run work together."""

    SINGLE = "single"
    CRITIQUE = "critique"
    DEBATE = "debate"
    ENSEMBLE = "ensemble"
    PIPELINE = "pipeline"


class Participant(models.TextChoices):
    """Who speaks in a run."""

    GENERATOR = "generator"
    CRITIC = "critic"
    REVISER = "reviser"
    DEBATER = "debater"
    RECONCILER = "reconciler"
    SYNTHESISER = "synthesiser"
    DRAFTER = "drafter"
    REFINER = "refiner"
    VALIDATOR = "validator"


def validate_roles(value: Any) -> None:
    """Raise ``ValidationError`` unless ``value`` is a list of roles, none of them twice."""
    if not isinstance(value, list) or not all(role in Role.values for role in value):
        raise ValidationError(f"Write a list of {', '.join(Role.values)}.")
    if len(set(value)) < len(value):
        raise ValidationError("Name each role once.")


class TaskRoute(models.Model):
    """The role that does a type of task. The row named ``default`` is for all other types."""

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
    """As what a model of a role takes part in a mode, where no preset says so."""

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
    """A model that answers in another's place; tried in order of ``position``."""

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
        """Raise ``ValidationError`` where the target cannot stand in."""
        super().clean()
        if not (self.target_id and self.model_id):
            return
        if self.target_id == self.model_id:
            raise ValidationError({"target": "A model cannot be its own fallback."})
        if self.target.type != self.model.type:
            raise ValidationError(
                {"target": f"{self.target} is of type {self.target.type}, not {self.model.type}."}
            )
