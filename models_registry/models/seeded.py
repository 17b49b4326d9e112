"""The values of the last seeding, which tell edits by people from seeded values."""

from django.db import models


class SeededRow(models.Model):
    """The last seeded values of the row with primary key ``object_id``; it may be deleted."""

    key = models.CharField(max_length=700, unique=True, help_text="Table and name in the seed.")
    object_id = models.BigIntegerField()
    values = models.JSONField(default=dict)
    seeded_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["key"]

    def __str__(self) -> str:
        return self.key
