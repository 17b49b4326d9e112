"""Which generations are blamed for the death of a host."""

import random
from dataclasses import dataclass

import pytest

from inference.queue.blame import (
    POISON_CRASHES,
    PROVEN_TOKENS,
    Claim,
    judge,
    may_claim_fresh,
    may_claim_suspect,
)

FRESH, FRESH_PROVEN = Claim(0, proven=False), Claim(0, proven=True)
SUSPECT, SUSPECT_PROVEN = Claim(1, proven=False), Claim(1, proven=True)


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, {}),
        # Without a suspect under test all are suspect, proven or not.
        ({"a": Claim(0, False), "b": Claim(0, True)}, {"a": 1, "b": 1}),
        # A suspect under test is guilty, and all others are innocent.
        (
            {"a": Claim(1, False), "b": Claim(0, True), "c": Claim(1, True)},
            {"a": POISON_CRASHES, "b": 0, "c": 0},
        ),
        # One proven again was innocent of the first death, so this is its first.
        ({"a": Claim(1, True), "b": Claim(0, True)}, {"a": 1, "b": 1}),
    ],
)
def test_judge(claims: dict[str, Claim], expected: dict[str, int]) -> None:
    assert judge(claims) == expected


@pytest.mark.parametrize(
    ("running", "fresh", "suspect"),
    [
        ([], True, True),
        ([FRESH], True, False),
        ([FRESH_PROVEN], True, True),
        ([FRESH_PROVEN, SUSPECT_PROVEN], True, True),
        ([SUSPECT], False, False),
        ([FRESH_PROVEN, SUSPECT], False, False),
        ([FRESH, SUSPECT_PROVEN], True, False),
    ],
)
def test_who_may_join(running: list[Claim], fresh: bool, suspect: bool) -> None:
    assert may_claim_fresh(running) is fresh
    assert may_claim_suspect(running) is suspect


@dataclass
class _Patient:
    """A generation in the simulation; ``kills_at`` is the token at which it kills its host."""

    name: str
    length: int
    kills_at: int | None = None
    tokens: int = 0
    crashes: int = 0
    new_tokens: int = 0

    @property
    def proven(self) -> bool:
        return self.new_tokens >= PROVEN_TOKENS


class _Ward:
    """One host after another works through a queue, a token of each claimed item at a time."""

    def __init__(self, patients: list[_Patient]) -> None:
        self.queue = patients
        self.claimed: list[_Patient] = []
        self.finished: list[str] = []
        self.failed: list[str] = []
        self.deaths: list[list[str]] = []

    def run(self) -> None:
        while self.queue or self.claimed:
            self._claim()
            killers = [p for p in self.claimed if p.tokens == p.kills_at]
            if killers:
                self._die()
                continue
            for patient in self.claimed:
                patient.tokens += 1
                patient.new_tokens += 1
            self.finished += [p.name for p in self.claimed if p.tokens == p.length]
            self.claimed = [p for p in self.claimed if p.tokens < p.length]

    def _claim(self) -> None:
        while self.queue:
            running = [Claim(p.crashes, p.proven) for p in self.claimed]
            suspect = self.queue[0].crashes > 0
            if not may_claim_fresh(running) or (suspect and not may_claim_suspect(running)):
                return
            patient = self.queue.pop(0)
            patient.new_tokens = 0
            self.claimed.append(patient)

    def _die(self) -> None:
        self.deaths.append([p.name for p in self.claimed])
        crashes = judge({p.name: Claim(p.crashes, p.proven) for p in self.claimed})
        back = []
        for patient in self.claimed:
            patient.crashes = crashes[patient.name]
            if patient.crashes >= POISON_CRASHES:
                self.failed.append(patient.name)
            else:
                back.append(patient)
        self.queue = [*back, *self.queue]
        self.claimed = []


@pytest.mark.parametrize("kills_at", [0, 1, PROVEN_TOKENS, 30])
@pytest.mark.parametrize("place", [0, 4, 8])
def test_poison_among_innocents_kills_two_hosts_and_fails_alone(kills_at: int, place: int) -> None:
    patients = [_Patient(f"innocent {index}", length=40 + index) for index in range(8)]
    patients.insert(place, _Patient("poison", length=60, kills_at=kills_at))
    ward = _Ward(patients)
    ward.run()
    assert ward.failed == ["poison"]
    assert sorted(ward.finished) == [f"innocent {index}" for index in range(8)]
    assert len(ward.deaths) == 2
    assert all("poison" in claimed for claimed in ward.deaths)


@pytest.mark.parametrize("seed", range(20))
def test_poisons_that_kill_at_once_fail_and_innocents_never_do(seed: int) -> None:
    chance = random.Random(seed)
    patients = [_Patient(f"innocent {index}", chance.randrange(1, 60)) for index in range(8)]
    for index in range(2):
        # One that killed later for the first time could do so beside an innocent suspect, which
        # would be blamed: nothing tells the two apart.
        kills_at = chance.randrange(PROVEN_TOKENS)
        poison = _Patient(f"poison {index}", kills_at + 1, kills_at)
        patients.insert(chance.randrange(9), poison)
    ward = _Ward(patients)
    ward.run()
    assert sorted(ward.failed) == ["poison 0", "poison 1"]
    assert sorted(ward.finished) == [f"innocent {index}" for index in range(8)]
    assert len(ward.deaths) <= 4
