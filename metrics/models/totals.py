"""Figures by time: totals of requests, computed from records and never incremented, and others."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Dimensions(models.Model):
    """The facts by which totals are kept apart."""

    version_key = models.CharField(max_length=160)
    team_id = models.BigIntegerField(null=True)
    user_id = models.BigIntegerField()
    key_id = models.BigIntegerField(null=True)
    preset = models.CharField(max_length=100, blank=True)
    mode = models.CharField(max_length=20)
    kind = models.CharField(max_length=16)
    tier = models.CharField(max_length=10, blank=True)

    class Meta:
        abstract = True


class Usage(Dimensions):
    """Sums over records; ``finished_us`` is the sum of the total times of finished requests."""

    requests = models.BigIntegerField()
    finished = models.BigIntegerField()
    failed = models.BigIntegerField()
    cancelled = models.BigIntegerField()
    fallbacks = models.BigIntegerField()
    prompt_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    completion_tokens = models.BigIntegerField()
    computed_prompt_tokens = models.BigIntegerField()
    computed_completion_tokens = models.BigIntegerField()
    finished_us = models.BigIntegerField()
    device_us = models.BigIntegerField()
    cost_nano = models.BigIntegerField()
    correction_nano = models.BigIntegerField()

    class Meta:
        abstract = True
        default_permissions = ()


class UsageSlot(Usage):
    """15 minutes that begin at ``slot``; every time zone's days consist of whole ones."""

    slot = models.DateTimeField(db_index=True)


class UsageDay(Usage):
    """A day of the time zone of the setting USAGE_TIME_ZONE."""

    day = models.DateField(db_index=True)


class Shape(models.Model):
    """A histogram of one time of the requests that a model answered.

    ``buckets`` are numbers of logarithmic buckets (``metrics.ledger.buckets``), ``counts`` the
    number of requests in each.
    """

    class Measure(models.TextChoices):
        TTFT = "ttft"
        INTER_TOKEN = "itl"  # noqa: S105 - no password
        QUEUE = "queue"
        TOTAL = "total"

    version_key = models.CharField(max_length=160)
    measure = models.CharField(max_length=8, choices=Measure.choices)
    buckets = ArrayField(models.SmallIntegerField())
    counts = ArrayField(models.IntegerField())

    class Meta:
        abstract = True
        default_permissions = ()


class ShapeSlot(Shape):
    slot = models.DateTimeField(db_index=True)


class ShapeHour(Shape):
    """An hour of UTC: a month has a third of the entries that its slots have."""

    hour = models.DateTimeField(db_index=True)


class ShapeDay(Shape):
    day = models.DateField(db_index=True)


class RefusedSlot(models.Model):
    """Requests that were refused before they were accepted, by error code; they have no record."""

    slot = models.DateTimeField()
    code = models.CharField(max_length=64)
    requests = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["slot", "code"], name="one_count_per_slot_and_code")
        ]


class FleetSample(models.Model):
    """The memory that a version held on a node at a moment, and the loads begun until the next."""

    taken_at = models.DateTimeField()
    node = models.CharField(max_length=100)
    version_key = models.CharField(max_length=160)
    resident_bytes = models.BigIntegerField()
    loads = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["taken_at", "node", "version_key"], name="one_sample_at_a_time"
            )
        ]


class Correction(Dimensions):
    """An amount added to the cost of a slot when a price was wrong; append-only."""

    slot = models.DateTimeField(db_index=True)
    delta_nano = models.BigIntegerField()
    price_id = models.BigIntegerField(help_text="The price that the records should have had.")
    reason = models.CharField(max_length=200)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ("view",)
        ordering = ["-made_at", "-slot"]

    def __str__(self) -> str:
        return f"{self.version_key} {self.slot:%Y-%m-%d %H:%M}"
