"""Runs of several models: their state, from which another process can go on, and their steps."""

from django.db import models
from django.utils import timezone


class OrchestrationRun(models.Model):
    """An answer that several models give; ``id`` is that of the response.

    ``frozen`` has the request and the members with which it goes on after the death of its process;
    it is empty once the run has ended. ``summary`` is the field ``orchestration`` of the response.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        FINISHED = "finished"
        PARTIAL = "partial"
        CANCELLED = "cancelled"
        FAILED = "failed"

    id = models.CharField(max_length=64, primary_key=True)
    user_id = models.BigIntegerField()
    end_user = models.CharField(max_length=200, blank=True)
    mode = models.CharField(max_length=10)
    preset = models.CharField(max_length=100, blank=True)
    model = models.CharField(max_length=200)
    state = models.CharField(max_length=9, choices=State.choices, default=State.RUNNING)
    frozen = models.BinaryField(default=b"")
    summary = models.JSONField(default=dict)
    error_code = models.CharField(max_length=60, blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)
        verbose_name = "run of several models"
        verbose_name_plural = "runs of several models"
        indexes = [
            models.Index(fields=["-started_at"], name="orchestration_run_started"),
            models.Index(
                fields=["id"], name="orchestration_run_open", condition=models.Q(state="running")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.mode} by {self.model}, {self.started_at:%Y-%m-%d %H:%M:%S}"


class RunStep(models.Model):
    """A call of a run to one member; its record in the ledger has the id ``generation_id``."""

    run = models.ForeignKey(OrchestrationRun, models.CASCADE, related_name="steps")
    key = models.CharField(max_length=20)
    attempt = models.PositiveSmallIntegerField(default=0)
    phase = models.CharField(max_length=100)
    round = models.PositiveSmallIntegerField()
    member = models.PositiveSmallIntegerField()
    participant = models.CharField(max_length=12)
    version_key = models.CharField("version", max_length=160)
    generation_id = models.CharField(max_length=64)
    said = models.BinaryField(default=b"")
    text = models.TextField(blank=True)
    finish = models.CharField(max_length=10, blank=True)
    error_code = models.CharField(max_length=60, blank=True)
    prompt_tokens = models.IntegerField(default=0)
    cached_tokens = models.IntegerField(default=0)
    completion_tokens = models.IntegerField(default=0)
    context_tokens = models.IntegerField(default=0)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["started_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "key", "attempt"], name="one_step_per_key_and_attempt"
            )
        ]

    def __str__(self) -> str:
        return f"{self.key}: {self.participant} {self.version_key}"
