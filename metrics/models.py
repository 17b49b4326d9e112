"""One durable record per request, the source of usage reports."""

from django.db import models


class RequestRecord(models.Model):
    """One run. Users, keys and versions are stored by value, because a record outlives them.

    Seconds are null when the run ended before that phase.
    """

    class Outcome(models.TextChoices):
        FINISHED = "finished"
        CANCELLED = "cancelled"
        FAILED = "failed"

    run_id = models.CharField(max_length=64, unique=True)
    request_id = models.CharField(max_length=128, blank=True)
    kind = models.CharField(max_length=16)
    user_id = models.BigIntegerField(db_index=True)
    key_id = models.BigIntegerField(null=True)
    end_user = models.CharField(max_length=200, blank=True, help_text="The request's 'user'.")
    version_key = models.CharField(max_length=160)
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    error_code = models.CharField(max_length=64, blank=True)
    prompt_tokens = models.PositiveIntegerField(default=0)
    cached_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    queue_seconds = models.FloatField(null=True)
    prefill_seconds = models.FloatField(null=True)
    decode_seconds = models.FloatField(null=True)
    total_seconds = models.FloatField()
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.run_id} {self.outcome}"
