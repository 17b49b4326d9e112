"""What to do next, from what is wanted and what is seen: pure.

Every tick decides anew from the facts alone, so nothing is forgotten when a controller dies. What
one decision promises the next one keeps because order and room come out the same: those who wait
longest choose first, and room that is coming free is counted as theirs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from models_registry.plan.facts import (
    Bytes,
    NodeView,
    Placement,
    ReplicaView,
    Rules,
    VersionView,
)
from models_registry.plan.leaving import Retire, expired, overdrawn
from models_registry.plan.ledger import Ledger
from models_registry.plan.lifecycle import (
    CRASH_LOOP,
    Action,
    may_start,
    next_action,
    rest_seconds,
)
from models_registry.plan.reasons import NEARLY, NO_NODE, Reason, shortage
from models_registry.plan.victims import choose_victims, is_idle, kept_bytes
from models_registry.plan.wants import Want, stands_as_embedding, wants


@dataclass(frozen=True)
class Start:
    """Bring a version into memory: in the row ``replica_id``, or in a new one when it is None.

    ``needs`` is what is set aside for it; ``on_demand`` says that no person and no setting is
    behind it, but requests or programs are.
    """

    version: str
    node: str
    device: str
    needs: Bytes
    replica_id: int | None
    on_demand: bool


@dataclass(frozen=True)
class Plan:
    """What is to be done, in this order, and why the versions that requests wait for are absent.

    ``actions`` are due for single replicas whatever else there is. The ``overdrawn`` nodes hold
    more than they may, and will when all that leave have left.
    """

    actions: list[tuple[int, Action]] = field(default_factory=list)
    retirements: list[Retire] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    reasons: dict[str, Reason] = field(default_factory=dict)
    overdrawn: list[str] = field(default_factory=list)


def plan(
    nodes: Sequence[NodeView],
    versions: Iterable[VersionView],
    replicas: Sequence[ReplicaView],
    rules: Rules,
) -> Plan:
    """Decide the next step of the whole fleet.

    Args:
        nodes: machines and their budgets.
        versions: every version that is wanted, requested or named by a replica.
        replicas: every replica there is a row of.
        rules: the times to go by.
    """
    by_key = {version.key: version for version in versions}
    alive = {node.name for node in nodes if node.is_alive}
    drawn = Plan()
    for replica in replicas:
        action = next_action(replica, rules, replica.node in alive)
        if action is not None:
            drawn.actions.append((replica.id, action))
    drawn.retirements.extend(expired(replicas, by_key, rules))
    remaining = _without(replicas, drawn.retirements)
    room = _Room(remaining, by_key, Ledger(nodes, remaining, rules), rules)
    for node in nodes:
        if node.is_alive:
            room.settle(node, drawn)
    room.keep_places()
    for want in wants(by_key.values(), room.fleet, rules):
        room.serve(want, drawn)
    _explain_rest(by_key, room, drawn)
    return drawn


@dataclass
class _Room:
    """The fleet while wants are served one after the other.

    ``promised`` are the versions that have got room: a further copy makes nobody leave.
    """

    replicas: list[ReplicaView]
    versions: Mapping[str, VersionView]
    ledger: Ledger
    rules: Rules
    promised: set[str] = field(default_factory=set)

    @property
    def fleet(self) -> dict[str, list[ReplicaView]]:
        """Replicas by version."""
        fleet = defaultdict(list)
        for replica in self.replicas:
            fleet[replica.version].append(replica)
        return fleet

    def settle(self, node: NodeView, drawn: Plan) -> None:
        """Let leave what a node holds beyond its budgets."""
        self._retire(overdrawn(node, self.replicas, self.versions, self.ledger, self.rules), drawn)
        if self.ledger.overdraft(node.name):
            drawn.overdrawn.append(node.name)

    def keep_places(self) -> None:
        """Keep room for embedding models that stay and whose host died, until it may start again.

        One that cannot be loaded, or that dies again and again, has none kept.
        """
        for key, own in self.fleet.items():
            if not stands_as_embedding(self.versions[key]):
                continue
            if any(one.is_coming and one.occupies for one in own):
                continue
            for replica in filter(_comes_back, own):
                places = (one for one in self.versions[key].placements if one.node == replica.node)
                placement = next(filter(self.ledger.fits_now, places), None)
                if placement is not None:
                    self.ledger.take(placement)
                    break

    def serve(self, want: Want, drawn: Plan) -> None:
        """Start it, make room for it, or say why not."""
        if want.version.key in self.promised:
            want = replace(want, may_evict=False)
        placement = next(filter(self.ledger.fits_now, want.placements), None)
        if placement is not None:
            self._start(want, placement, drawn)
        elif not (want.may_evict and self._reserve(want, drawn)):
            self._turn_away(want, drawn)

    def _start(self, want: Want, placement: Placement, drawn: Plan) -> None:
        self._promise(want, placement)
        # A guess comes alone, so that there is a place for whoever really asks.
        most = 1 if want.is_guess else self.rules.max_loads
        if self.ledger.loads[placement.node] >= most:
            self._note(want, drawn, Reason("It waits for others to be loaded first."))
            return
        self.ledger.loads[placement.node] += 1
        own = want.replica is not None and want.replica.node == placement.node
        drawn.starts.append(
            Start(
                want.version.key,
                placement.node,
                placement.device,
                placement.needs,
                want.replica.id if own and want.replica else None,
                on_demand=not (want.version.pinned or want.version.preload_workers),
            )
        )
        self._note(want, drawn, Reason("It is being loaded."))

    def _reserve(self, want: Want, drawn: Plan) -> bool:
        """Promise it what comes free in a moment, or make room."""
        placement = next(filter(self.ledger.fits_soon, want.placements), None)
        if placement is None:
            return self._make_room(want, drawn)
        self._note(want, drawn, self._shortage(want, placement))
        self._promise(want, placement)
        return True

    def _promise(self, want: Want, placement: Placement) -> None:
        self.ledger.take(placement)
        self.promised.add(want.version.key)

    def _make_room(self, want: Want, drawn: Plan) -> bool:
        """Put out the cheapest set of replicas that helps: fewest busy, then fewest at all."""
        options = []
        for rank, placement in enumerate(want.placements):
            victims = choose_victims(
                want, placement, self.replicas, self.versions, self.ledger, self.rules
            )
            if victims:
                busy = sum(not is_idle(one, self.versions) for one in victims)
                options.append(((busy, len(victims), rank), placement, victims))
        if not options:
            return False
        _, placement, victims = min(options, key=lambda option: option[0])
        self._note(want, drawn, self._shortage(want, placement))
        reason = f"Put out to make room for {want.version.key}."
        self._retire([Retire(victim.id, reason) for victim in victims], drawn)
        self._promise(want, placement)
        return True

    def _retire(self, retired: Sequence[Retire], drawn: Plan) -> None:
        out = {one.replica_id for one in retired}
        for victim in self.replicas:
            if victim.id in out:
                self.ledger.release(victim)
        drawn.retirements.extend(retired)
        self.replicas = _without(self.replicas, retired)

    def _turn_away(self, want: Want, drawn: Plan) -> None:
        kept = kept_bytes(self.replicas, want.version, self.versions)
        hopeful = [one for one in want.placements if self.ledger.could_ever_fit(one, kept)]
        if not hopeful and self._rests(want.version.key):
            return  # It is tried again where it rests.
        expected = [one for one in want.placements if self.ledger.may_fit_again(one, kept)]
        near = [one for one in want.placements if self.ledger.nearly_fits(one, kept)]
        is_final = want.may_evict and not (hopeful or expected or near)
        there = [one for one in want.placements if one.node in self.ledger.budgets]
        reason = Reason(NO_NODE, is_final)
        for placement in (hopeful or expected or near or there or want.placements)[:1]:
            reason = self._shortage(want, placement, is_final=is_final)
            if placement in near and not (hopeful or expected):
                reason = replace(reason, text=f"{reason.text} {NEARLY}")
        # What has begun did fit somewhere: that machine may come back.
        self._note(want, drawn, replace(reason, spares_begun=reason.is_final))
        if want.is_starved(self.rules):
            self._keep_room(want, hopeful)

    def _rests(self, key: str) -> bool:
        own = (one for one in self.replicas if one.version == key)
        return any(rest_seconds(one) > 0 for one in own)

    def _keep_room(self, want: Want, hopeful: Sequence[Placement]) -> None:
        """Keep what comes free from now on for this one alone, or it would starve for ever."""
        placement = next(filter(self.ledger.fits_late, hopeful), None)
        if placement is not None:
            self._promise(want, placement)
            return
        stuck = kept_bytes(self.replicas, want.version, self.versions, counting_stuck=True)
        for placement in hopeful:
            if self.ledger.could_ever_fit(placement, stuck):
                self.ledger.block(placement.node)
                return

    def _shortage(self, want: Want, placement: Placement, *, is_final: bool = False) -> Reason:
        return shortage(
            want.version,
            placement,
            self.replicas,
            self.versions,
            self.ledger,
            is_final=is_final,
        )

    def _note(self, want: Want, drawn: Plan, reason: Reason) -> None:
        # Requests wait for the first copy only; a row says for itself why it waits.
        if want.replica is not None or (want.version.queued and want.may_evict):
            drawn.reasons.setdefault(want.version.key, reason)


def _without(replicas: Sequence[ReplicaView], retired: Iterable[Retire]) -> list[ReplicaView]:
    """The replicas as they are once those retired are no longer wanted."""
    out = {one.replica_id for one in retired}
    return [replace(one, wanted=one.wanted and one.id not in out) for one in replicas]


def _comes_back(replica: ReplicaView) -> bool:
    """Whether it is wanted, has just ended, and will start in a moment, but not yet."""
    is_away = replica.wanted and not replica.occupies and not may_start(replica)
    return is_away and not replica.load_failed and replica.crashes < CRASH_LOOP


def _explain_rest(versions: Mapping[str, VersionView], room: _Room, drawn: Plan) -> None:
    """Reasons for versions that requests wait for and that no want stands for."""
    fleet = room.fleet
    for version in versions.values():
        if not version.queued or version.key in drawn.reasons:
            continue
        replicas = fleet.get(version.key, [])
        failing = [one for one in replicas if one.failure and one.state == "failed"]
        if any(one.is_coming for one in replicas):
            continue
        if version.unusable:
            drawn.reasons[version.key] = Reason(version.unusable, is_final=True)
        elif failing:
            last = min(failing, key=lambda one: one.state_age_seconds)
            rest = max(1.0, rest_seconds(last))
            drawn.reasons[version.key] = Reason(last.failure, True, rest)
        elif hung := next((one for one in replicas if one.is_stuck), None):
            reason = Reason(f"Its last process on {hung.node} has not ended yet.")
            drawn.reasons[version.key] = reason
