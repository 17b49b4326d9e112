"""The members of an answer that several models give, and their parts."""

from dataclasses import dataclass

from models_registry.rules.mode_settings import ModeSettings
from models_registry.rules.spec import ModelSpec


@dataclass(frozen=True)
class Member:
    """A version and its part in a run; ``participant`` is a value of ``Participant``."""

    index: int
    participant: str
    spec: ModelSpec


@dataclass(frozen=True)
class Cast:
    """The mode of a run and its members, in the order in which they were named.

    Attributes:
        name: the ``model`` of the answer: a preset, or the model that the request names.
        preset: its preset; "" without one.
        requested_mode: the mode that was asked for, where members are missing and ``mode`` had to
            change.
    """

    mode: str
    settings: ModeSettings
    members: tuple[Member, ...]
    name: str
    preset: str = ""
    requested_mode: str = ""

    def of(self, *participants: str) -> list[Member]:
        """The members with one of these parts, in order."""
        return [member for member in self.members if member.participant in participants]

    @property
    def answering(self) -> Member:
        """The member that writes the answer, unless another's is chosen."""
        writers = self.of("synthesiser", "reconciler", "reviser") or self.of("generator", "debater")
        return self.members[-1] if self.mode == "pipeline" else writers[0]
