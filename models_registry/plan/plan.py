"""Which replicas to start and to retire, from what is wanted and what is seen: pure.

Each tick decides anew from the facts alone, so nothing is lost when a controller dies. A version
that waits for room gets the same room at the next tick: the longest wait is served first, and
memory that is coming free counts as given to it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from models_registry.plan.facts import Bytes, NodeView, Placement, ReplicaView, Rules, VersionView
from models_registry.plan.lifecycle import CRASH_LOOP, Action, may_start, next_action, rest_seconds
from models_registry.plan.reasons import LOADING, LOADS_LATER, NEARLY, NO_NODE, Reason, shortage
from models_registry.plan.retirement import Retire, expired, overdrawn, victims
from models_registry.plan.room import FLUCTUATION, Room
from models_registry.plan.wants import Want, wants
from models_registry.rules.replica_state import ReplicaState


@dataclass(frozen=True)
class Start:
    version: str
    node: str
    device: str
    needs: Bytes  # to be reserved for it
    replica_id: int | None  # its row; None for a new one
    on_demand: bool  # wanted by requests or programs, not by people or settings


@dataclass
class Plan:
    """The changes to make, in this order, and the reasons of requests to wait."""

    actions: list[tuple[int, Action]] = field(default_factory=list)  # by replica id
    retirements: list[Retire] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    reasons: dict[str, Reason] = field(default_factory=dict)  # by version key
    overdrawn: list[str] = field(default_factory=list)  # over budget, also without what leaves


def plan(
    nodes: Sequence[NodeView],
    versions: Iterable[VersionView],
    replicas: Sequence[ReplicaView],
    rules: Rules,
) -> Plan:
    """Decide the next step of the fleet.

    ``versions`` are all that are wanted, requested or named by one of the ``replicas``.
    """
    room = Room(nodes, versions, replicas, rules)
    planner = _Planner(room)
    for replica in replicas:
        action = next_action(replica, rules, room.is_alive(replica.node))
        if action is not None:
            planner.plan.actions.append((replica.id, action))
    planner.retire(expired(room))
    for node in nodes:
        if node.is_alive:
            planner.retire(overdrawn(room, node))
            if room.nodes[node.name].overdraft():
                planner.plan.overdrawn.append(node.name)
    planner.reserve_for_crashed_embeddings()
    for want in wants(room):
        planner.serve(want)
    planner.explain_rest()
    return planner.plan


class _Planner:
    """Serves one want after the other with the room that is left."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.plan = Plan()
        # Versions that have room: nothing is evicted for a further copy.
        self._promised: set[str] = set()

    def retire(self, retired: Sequence[Retire]) -> None:
        self.plan.retirements += retired
        self.room.retire(one.replica_id for one in retired)

    def reserve_for_crashed_embeddings(self) -> None:
        """Reserve memory for standing embedding models whose host died, until they may start.

        None is reserved for one that cannot be loaded or is in a crash loop.
        """
        for key, own in self.room.fleet.items():
            version = self.room.versions[key]
            if not version.is_standing_embedding or any(
                one.is_coming and one.occupies for one in own
            ):
                continue
            for replica in own:
                is_away = replica.wanted and not replica.occupies and not may_start(replica)
                if not is_away or replica.load_failed or replica.crashes >= CRASH_LOOP:
                    continue
                places = (one for one in version.placements if one.node == replica.node)
                placement = next(filter(self.room.fits_now, places), None)
                if placement is not None:
                    self.room.reserve(placement)
                    break

    def serve(self, want: Want) -> None:
        if want.version.key in self._promised:
            want = replace(want, may_evict=False)
        placement = next(filter(self.room.fits_now, want.placements), None)
        if placement is not None:
            self._start(want, placement)
        elif not (want.may_evict and (self._wait_for_room(want) or self._make_room(want))):
            self._explain_wait(want)

    def _start(self, want: Want, placement: Placement) -> None:
        self._promise(want, placement)
        node = self.room.nodes[placement.node]
        # A foreseen version is loaded alone, so that requested ones find a free place for a load.
        most = 1 if want.is_guess else self.room.rules.max_loads
        if node.loads >= most:
            self._note(want, Reason(LOADS_LATER))
            return
        node.loads += 1
        row = want.replica
        self.plan.starts.append(
            Start(
                want.version.key,
                placement.node,
                placement.device,
                placement.needs,
                row.id if row is not None and row.node == placement.node else None,
                on_demand=not (want.version.pinned or want.version.preload_workers),
            )
        )
        self._note(want, Reason(LOADING))

    def _wait_for_room(self, want: Want) -> bool:
        placement = next(filter(self.room.fits_soon, want.placements), None)
        if placement is None:
            return False
        self._note(want, self._shortage(want, placement))
        self._promise(want, placement)
        return True

    def _make_room(self, want: Want) -> bool:
        """Evict the fewest busy replicas that make room, among equals the fewest replicas."""
        options = []
        for rank, placement in enumerate(want.placements):
            chosen = victims(self.room, want, placement)
            if chosen:
                busy = sum(not self.room.is_idle(one) for one in chosen)
                options.append((busy, len(chosen), rank, chosen))
        if not options:
            return False
        _, _, rank, chosen = min(options, key=lambda option: option[:3])
        placement = want.placements[rank]
        self._note(want, self._shortage(want, placement))
        reason = f"Evicted to make room for {want.version.key}."
        self.retire([Retire(victim.id, reason) for victim in chosen])
        self._promise(want, placement)
        return True

    def _promise(self, want: Want, placement: Placement) -> None:
        self.room.reserve(placement)
        self._promised.add(want.version.key)

    def _explain_wait(self, want: Want) -> None:
        room, version = self.room, want.version
        fitting = [one for one in want.placements if room.fits_beside_kept(one, version)]
        possible = [one for one in fitting if room.is_alive(one.node)]
        own = (one for one in room.replicas if one.version == version.key)
        if not possible and any(rest_seconds(one) > 0 for one in own):
            return  # It starts again where it failed, when it has rested.
        near = [
            one
            for one in want.placements
            if room.fits_beside_kept(one, version, stretch=FLUCTUATION)
        ]
        answering = [one for one in want.placements if room.is_alive(one.node)]
        is_final = want.may_evict and not near
        reason = Reason(NO_NODE, is_final)
        for placement in (possible or fitting or near or answering or want.placements)[:1]:
            reason = self._shortage(want, placement, is_final=is_final)
            if near and not fitting:
                reason = replace(reason, text=f"{reason.text} {NEARLY}")
        # A request that has begun was served by a machine that may come back.
        self._note(want, replace(reason, spares_begun=reason.is_final))
        if want.is_starved(room.rules):
            self._reserve_for_starved(want, possible)

    def _reserve_for_starved(self, want: Want, possible: Sequence[Placement]) -> None:
        """Reserve the memory that comes free, or the want could wait for ever."""
        placement = next(filter(self.room.fits_late, possible), None)
        if placement is not None:
            self._promise(want, placement)
            return
        for placement in possible:
            if self.room.fits_beside_kept(placement, want.version, with_stuck=True):
                self.room.nodes[placement.node].reserve_all()
                return

    def _shortage(self, want: Want, placement: Placement, *, is_final: bool = False) -> Reason:
        return shortage(self.room, want.version, placement, is_final=is_final)

    def _note(self, want: Want, reason: Reason) -> None:
        # Requests are told the reason only for a first copy; the row of a replica shows its own.
        if want.replica is not None or (want.version.queued and want.may_evict):
            self.plan.reasons.setdefault(want.version.key, reason)

    def explain_rest(self) -> None:
        """Note why requests wait for versions that have no want."""
        fleet = self.room.fleet
        for version in self.room.versions.values():
            replicas = fleet[version.key]
            is_explained = version.key in self.plan.reasons
            if not version.queued or is_explained or any(one.is_coming for one in replicas):
                continue
            failing = [one for one in replicas if one.failure and one.state == ReplicaState.FAILED]
            stuck = [one for one in replicas if one.is_stuck]
            if version.unusable:
                reason = Reason(version.unusable, is_final=True)
            elif failing:
                last = min(failing, key=lambda one: one.state_age_seconds)
                reason = Reason(last.failure, True, max(1.0, rest_seconds(last)))
            elif stuck:
                node = stuck[0].node
                reason = Reason(f"Waiting: its previous process on {node} has not ended yet.")
            else:
                continue
            self.plan.reasons[version.key] = reason
