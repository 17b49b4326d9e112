"""Batched embedding of texts, with the same interface as the generation engine."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from inference.messages import (
    Embedding,
    Failed,
    Finished,
    FinishReason,
    Frame,
    Started,
    Timings,
    Usage,
    Vectors,
)


class EmbeddingBackend(Protocol):
    dimensions: int
    max_input_tokens: int
    max_inputs: int
    step_tokens: int

    def embed(self, inputs: list[list[int]]) -> npt.NDArray[np.float32]:
        """Unit vectors of shape (len(inputs), dimensions)."""

    def close(self) -> None: ...


@dataclass
class _Job:
    embedding: Embedding
    submitted_at: float
    taken: int = 0
    computed_tokens: int = 0
    device_seconds: float = 0.0
    vectors: list[npt.NDArray[np.float32]] = field(default_factory=list)


class EmbeddingEngine:
    """Fills each step with texts of all jobs in turn, so that no short job waits for a long one."""

    # A job starts with the next step, and nothing is kept between steps.
    is_full = False
    waiting_sequences = 0
    used_cells = 0

    def __init__(
        self, backend: EmbeddingBackend, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.backend = backend
        self._clock = clock
        self._jobs: dict[str, _Job] = {}
        self._turns: deque[_Job] = deque()
        self._cancelled: list[_Job] = []
        self.step_tokens_in_flight = 0

    @property
    def is_idle(self) -> bool:
        return not self._jobs and not self._cancelled

    @property
    def running_sequences(self) -> int:
        return len(self._jobs)

    def submit(self, embedding: Embedding) -> list[tuple[str, Frame]]:
        """Queue a job; an empty or too long text fails it here, before llama.cpp sees it."""
        if not embedding.inputs or not all(embedding.inputs):
            message = "An empty text cannot be embedded. Leave it out."
            return [(embedding.id, Failed("invalid_value", message))]
        longest = max(len(tokens) for tokens in embedding.inputs)
        if longest > self.backend.max_input_tokens:
            message = (
                f"An input of {longest} tokens cannot be embedded; the limit is "
                f"{self.backend.max_input_tokens}. Split the text."
            )
            return [(embedding.id, Failed("context_length_exceeded", message))]
        job = _Job(embedding, self._clock())
        self._jobs[embedding.id] = job
        self._turns.append(job)
        return []

    def cancel(self, embedding_id: str) -> None:
        job = self._jobs.pop(embedding_id, None)
        if job is not None:
            self._cancelled.append(job)
            self._turns = deque(other for other in self._turns if other is not job)

    def step(self) -> list[tuple[str, Frame]]:
        outputs: list[tuple[str, Frame]] = [
            (job.embedding.id, self._end(job, "cancelled")) for job in self._cancelled
        ]
        self._cancelled.clear()
        batch = self._take_batch()
        if not batch:
            return outputs
        for job, index in batch:
            if index == 0:
                tokens = sum(map(len, job.embedding.inputs))
                outputs.append((job.embedding.id, Started(tokens)))
        texts = [job.embedding.inputs[index] for job, index in batch]
        self.step_tokens_in_flight = sum(map(len, texts))
        began_at = self._clock()
        rows = self.backend.embed(texts)
        token_seconds = (self._clock() - began_at) / self.step_tokens_in_flight
        self.step_tokens_in_flight = 0
        for (job, index), row in zip(batch, rows, strict=True):
            job.vectors.append(row)
            job.computed_tokens += len(job.embedding.inputs[index])
            job.device_seconds += token_seconds * len(job.embedding.inputs[index])
            if len(job.vectors) == len(job.embedding.inputs):
                outputs.extend(self._finish(job))
        return outputs

    def check_integrity(self) -> None:
        pass

    def _take_batch(self) -> list[tuple[_Job, int]]:
        """Jobs and indices of their texts; a text that does not fit begins the next batch."""
        batch: list[tuple[_Job, int]] = []
        tokens = 0
        while self._turns and len(batch) < self.backend.max_inputs:
            job = self._turns[0]
            tokens += len(job.embedding.inputs[job.taken])
            if batch and tokens > self.backend.step_tokens:
                break
            batch.append((job, job.taken))
            job.taken += 1
            self._turns.popleft()
            if job.taken < len(job.embedding.inputs):
                self._turns.append(job)
        return batch

    def _finish(self, job: _Job) -> list[tuple[str, Frame]]:
        del self._jobs[job.embedding.id]
        prompt_tokens = sum(len(tokens) for tokens in job.embedding.inputs)
        data = np.ascontiguousarray(np.stack(job.vectors), dtype="<f4").tobytes()
        return [
            (job.embedding.id, Vectors(self.backend.dimensions, data, prompt_tokens)),
            (job.embedding.id, self._end(job, "stop")),
        ]

    def _end(self, job: _Job, reason: FinishReason) -> Finished:
        """The last frame; a job that was cancelled has used the texts that were computed."""
        usage = Usage(job.computed_tokens, 0, computed_prompt_tokens=job.computed_tokens)
        seconds = self._clock() - job.submitted_at
        return Finished(reason, usage, Timings(0.0, seconds, 0.0, job.device_seconds))
