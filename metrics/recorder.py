"""The only call that other apps make to record what happened."""

from dataclasses import asdict, dataclass

from metrics.models import RequestRecord


@dataclass(frozen=True)
class RunRecord:
    """How one run went; times in seconds, None where it never got so far."""

    run_id: str
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
    """Store a record, once: a second one for the same run is ignored."""
    RequestRecord.objects.bulk_create([RequestRecord(**asdict(record))], ignore_conflicts=True)
