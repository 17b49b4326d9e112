"""Answers of the semantic cache, the vectors of their questions, and comparisons of answers."""

from django.db import models
from django.utils import timezone


class SemanticEntry(models.Model):
    """An answer that may be given again, with the last turn of the conversation that asked for it.

    ``partition`` is a digest of all that shapes the answer except this turn, and of the embedder;
    ``key`` names the answer in all caches. No index has columns that hits change.
    """

    class State(models.TextChoices):
        LIVE = "live"
        SUSPECT = "suspect", "suspect: a comparison waits for a decision"
        REFUSED = "refused", "refused: a person found a wrong hit"

    key = models.CharField(max_length=64, unique=True)
    partition = models.BinaryField()
    facts_digest = models.BinaryField()
    user_id = models.BigIntegerField()
    end_user = models.CharField(max_length=200, blank=True)
    version_key = models.CharField("version", max_length=160, db_index=True)
    preset = models.CharField(max_length=100, blank=True)
    prompt = models.TextField()
    answer = models.BinaryField()
    answer_text = models.TextField("answer", blank=True)
    completion_tokens = models.IntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)
    last_hit_at = models.DateTimeField(default=timezone.now)
    hits = models.IntegerField(default=0)
    state = models.CharField(max_length=8, choices=State.choices, default=State.LIVE)

    class Meta:
        default_permissions = ("view", "delete")
        verbose_name = "answer of the semantic cache"
        verbose_name_plural = "answers of the semantic cache"
        indexes = [models.Index(fields=["user_id", "end_user"], name="semantic_entry_user")]

    def __str__(self) -> str:
        return self.prompt if len(self.prompt) <= 200 else f"{self.prompt[:199]}…"


class SemanticVector(models.Model):
    """The vector of an entry's question, in a narrow table that is searched row by row.

    The second migration makes ``v`` a ``halfvec`` where Postgres has pgvector; else it holds
    float16 values. ``live_until`` is null while the entry must not be served.
    """

    # The database has the constraints of the references to entries, and deletes or empties them.
    entry = models.OneToOneField(
        SemanticEntry, models.DO_NOTHING, primary_key=True, related_name="+", db_constraint=False
    )
    partition = models.BinaryField()
    facts_digest = models.BinaryField()
    live_until = models.DateTimeField(null=True)
    v = models.BinaryField()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["partition", "facts_digest"], name="semantic_vector_group")]


class CacheVerdict(models.Model):
    """A hit, and for a part of the hits a comparison with the model's own answer to the question.

    ``agrees`` is null while a difference waits for a person; it counts as wrong until then. A hit
    that nobody compared has the source ``hit``. The user asked ``prompt``; texts are empty when
    they or the entry were forgotten.
    """

    class Source(models.TextChoices):
        HIT = "hit", "hit: not compared"
        SHADOW = "shadow"
        PERSON = "person"

    entry = models.ForeignKey(
        SemanticEntry,
        models.DO_NOTHING,
        verbose_name="cached prompt",
        null=True,
        related_name="verdicts",
        db_constraint=False,
    )
    version_key = models.CharField("version", max_length=160)
    preset = models.CharField(max_length=100, blank=True)
    user_id = models.BigIntegerField()
    end_user = models.CharField(max_length=200, blank=True)
    prompt = models.TextField("asked", blank=True)
    answer_text = models.TextField("own answer", blank=True)
    similarity = models.FloatField("cosine")
    agrees = models.BooleanField(null=True)
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.SHADOW)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ("view", "change", "delete")
        verbose_name = "hit of the semantic cache"
        verbose_name_plural = "hits and comparisons of answers"
        indexes = [
            models.Index(fields=["version_key", "preset", "at"], name="verdict_version_preset"),
            models.Index(fields=["user_id", "end_user"], name="verdict_user"),
        ]

    def __str__(self) -> str:
        return f"{self.version_key}, {self.at:%Y-%m-%d %H:%M}"
