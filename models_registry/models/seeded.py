"""What was last seeded, so that the next seeding can tell a person's edits from its own values."""

from django.db import models


class SeededRow(models.Model):
    """The values that a seeding last gave to one row of the registry.

    ``object_id`` is that row's primary key; a row that is gone was deleted by somebody.
    """

    key = models.CharField(max_length=700, unique=True, help_text="Table and name in the seed.")
    object_id = models.BigIntegerField()
    values = models.JSONField(default=dict)
    seeded_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["key"]

    def __str__(self) -> str:
        return self.key
