"""How the context of a version is shared out between the sections of an orchestrated prompt."""

from typing import Final

from django.core.exceptions import ValidationError
from django.db import models

SECTIONS: Final = ("system", "trajectory", "handoff", "user_query", "generation")


class ContextBudget(models.Model):
    """Tokens for each section; together they are at most what a replica can hold of a sequence."""

    version = models.OneToOneField(
        "models_registry.ModelVersion", on_delete=models.CASCADE, related_name="context_budget"
    )
    system_tokens = models.PositiveIntegerField(help_text="The system message.")
    trajectory_tokens = models.PositiveIntegerField(help_text="Where in the run the model is.")
    handoff_tokens = models.PositiveIntegerField(help_text="What earlier models hand on.")
    user_query_tokens = models.PositiveIntegerField(help_text="What the user asked.")
    generation_tokens = models.PositiveIntegerField(help_text="The answer.")

    class Meta:
        ordering = ["version"]

    def __str__(self) -> str:
        return f"{self.version} in {self.total_tokens} tokens"

    @property
    def total_tokens(self) -> int:
        """All sections together."""
        return sum(getattr(self, f"{section}_tokens") for section in SECTIONS)

    def clean(self) -> None:
        """Raise ``ValidationError`` where the sections do not fit into the context."""
        super().clean()
        limit = self.version.sequence_limit_tokens
        if self.total_tokens > limit:
            raise ValidationError(
                f"The sections are {self.total_tokens} tokens together; {self.version} takes "
                f"{limit}, the less of its context and its KV cells."
            )
