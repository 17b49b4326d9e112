"""One durable record per accepted request, the source of all reports."""

from django.db import models


class Outcome(models.TextChoices):
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    LOST = "lost", "lost: nobody knows how it ended"


def _microseconds() -> models.BigIntegerField:
    return models.BigIntegerField(null=True)


class Work(models.Model):
    """A request, or a part of one. Times are in microseconds, null where there was no such phase.

    ``cached_tokens`` are the part of the prompt that was not computed again.
    """

    run_id = models.CharField(max_length=64)
    started_at = models.DateTimeField()
    kind = models.CharField(max_length=16)
    version_key = models.CharField(max_length=160)
    outcome = models.CharField(max_length=10, choices=Outcome.choices)
    error_code = models.CharField(max_length=64, blank=True)
    prompt_tokens = models.IntegerField(default=0)
    cached_tokens = models.IntegerField(default=0)
    completion_tokens = models.IntegerField(default=0)
    queue_us = _microseconds()
    prefill_us = _microseconds()
    decode_us = _microseconds()
    device_us = models.BigIntegerField(default=0)

    class Meta:
        abstract = True


class RequestRecord(Work):
    """An accepted request. Users, keys and versions are stored by value: a record outlives them.

    The table is partitioned by the month of ``started_at``, the moment of admission by the clock of
    Redis; all accounting uses this moment. Rows are never changed: ``Correction`` has what is added
    later. ``tier`` is the cache that answered, empty for a model. The computed tokens are the
    engines' work for this request; cost is in billionths of a US dollar.
    """

    settled_at = models.DateTimeField()
    request_id = models.CharField(max_length=128, blank=True)
    user_id = models.BigIntegerField()
    key_id = models.BigIntegerField(null=True)
    team_id = models.BigIntegerField(null=True)
    end_user = models.CharField(max_length=200, blank=True)
    requested_model = models.CharField(max_length=200, blank=True)
    preset = models.CharField(max_length=100, blank=True)
    mode = models.CharField(max_length=20, default="single")
    tier = models.CharField(max_length=10, blank=True)
    fallback = models.BooleanField(default=False)
    priority = models.PositiveSmallIntegerField(default=2)
    streamed = models.BooleanField(default=False)
    computed_prompt_tokens = models.IntegerField(default=0)
    computed_completion_tokens = models.IntegerField(default=0)
    ttft_us = _microseconds()
    total_us = models.BigIntegerField(default=0)
    cost_nano = models.BigIntegerField(default=0)
    price_id = models.BigIntegerField(null=True)

    Outcome = Outcome

    class Meta:
        ordering = ["-started_at"]
        default_permissions = ("view",)
        permissions = [("view", "Can see the usage of all users")]
        verbose_name = "request"
        constraints = [
            models.UniqueConstraint(fields=["run_id", "started_at"], name="one_record_per_run")
        ]
        indexes = [
            models.Index(fields=["started_at"], name="request_started"),
            models.Index(fields=["user_id", "started_at"], name="request_user_started"),
        ]

    def __str__(self) -> str:
        return f"{self.run_id} {self.outcome}"


class RequestStep(Work):
    """A part of a request that has several: a choice, an attempt, a phase."""

    number = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["started_at", "run_id", "number"]
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["run_id", "number"], name="one_step_per_number")
        ]
        indexes = [models.Index(fields=["started_at"], name="step_started")]


class RollMark(models.Model):
    """A quarter of an hour whose totals must be computed again; written with the rows.

    Marks are deleted by id: a batch that is committed later has marks of its own.
    """

    slot = models.DateTimeField()

    class Meta:
        default_permissions = ()


class DimensionName(models.Model):
    """The name of a user, key or team from a moment on, so that old reports keep old names."""

    class Kind(models.TextChoices):
        USER = "user"
        KEY = "key"
        TEAM = "team"

    kind = models.CharField(max_length=8, choices=Kind.choices)
    dimension_id = models.BigIntegerField()
    name = models.CharField(max_length=200)
    valid_from = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "dimension_id", "valid_from"], name="one_name_at_a_time"
            )
        ]
