"""Recording of runs, called by other apps."""

from dataclasses import asdict, dataclass
from functools import cache

from django.db import connection
from django.utils import timezone

from metrics.models import RequestRecord


@dataclass(frozen=True)
class RunRecord:
    """One run to record; the fields are those of ``RequestRecord``."""

    run_id: str
    request_id: str
    kind: str
    user_id: int
    key_id: int | None
    end_user: str
    version_key: str
    outcome: str
    error_code: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_seconds: float | None
    prefill_seconds: float | None
    decode_seconds: float | None
    total_seconds: float


def record_run(record: RunRecord) -> None:
    """Store a record; ignore a second one of the same run."""
    values = asdict(record) | {"created_at": timezone.now()}
    with connection.cursor() as cursor:
        cursor.execute(_insertion(), values)


@cache
def _insertion() -> str:
    # The ORM takes ten times as long, in three round trips.
    fields = [field for field in RequestRecord._meta.concrete_fields if not field.primary_key]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    values = ", ".join(f"%({field.attname})s" for field in fields)
    table = RequestRecord._meta.db_table
    return f'INSERT INTO "{table}" ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING'  # noqa: S608
