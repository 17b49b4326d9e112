"""The share of each section of an orchestrated prompt in a version's context."""

from typing import Final

from django.core.exceptions import ValidationError
from django.db import models

SECTIONS: Final = ("system", "trajectory", "handoff", "user_query", "generation")


class ContextBudget(models.Model):
    version = models.OneToOneField(
        "models_registry.ModelVersion", on_delete=models.CASCADE, related_name="context_budget"
    )
    system_tokens = models.PositiveIntegerField(help_text="The system message.")
    trajectory_tokens = models.PositiveIntegerField(help_text="The progress of the run.")
    handoff_tokens = models.PositiveIntegerField(help_text="The output of earlier models.")
    user_query_tokens = models.PositiveIntegerField(help_text="The user's question.")
    generation_tokens = models.PositiveIntegerField(help_text="The answer.")

    class Meta:
        ordering = ["version"]

    def __str__(self) -> str:
        return f"{self.version} in {self.total_tokens} tokens"

    @property
    def total_tokens(self) -> int:
        return sum(getattr(self, f"{section}_tokens") for section in SECTIONS)

    def clean(self) -> None:
        super().clean()
        limit = self.version.sequence_limit_tokens
        if self.total_tokens > limit:
            raise ValidationError(
                f"The sections have {self.total_tokens} tokens together; {self.version} takes "
                f"{limit}, the smaller of its context and its KV cells."
            )
