"""What is free on each node, and what will be once those that leave have left."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from models_registry.plan.facts import Bytes, NodeView, Placement, ReplicaView, Rules

# Hosts are counted like memory: a node has so many, and each replica needs one.
HOSTS = "hosts"
# What a replica holds is measured while it works, and comes and goes by about so much of a budget.
_FLUCTUATION = 1 / 20


class Ledger:
    """Room by node and device, written down as the plan gives it away.

    ``free`` is there now; ``coming`` is held by replicas that are leaving, ``late`` by those that
    take long to. ``free`` can be below zero where a measurement turned out larger than what was
    foreseen, or a budget was lowered: nothing fits then. What a process holds that should have
    ended is none of these. Only nodes that show themselves have any room.
    """

    def __init__(
        self, nodes: Iterable[NodeView], replicas: Iterable[ReplicaView], rules: Rules
    ) -> None:
        nodes = list(nodes)
        self.budgets = {node.name: _budget(node) for node in nodes if node.is_alive}
        self._expected = {node.name: _budget(node) for node in nodes if rules.expects(node)}
        self._free = {name: dict(budget) for name, budget in self.budgets.items()}
        # Of nodes that are expected back, to tell numbers by: nothing is placed there.
        self._free_when_back = {name: dict(budget) for name, budget in self._expected.items()}
        self._coming = {name: dict.fromkeys(budget, 0) for name, budget in self.budgets.items()}
        self._late = {name: dict.fromkeys(budget, 0) for name, budget in self.budgets.items()}
        self.loads: dict[str, int] = defaultdict(int)
        for replica in replicas:
            if replica.occupies and replica.node in self._expected:
                _add(self._free_when_back[replica.node], full_needs(replica.needs), -1)
            if replica.occupies and replica.node in self.budgets:
                _add(self._free[replica.node], full_needs(replica.needs), -1)
                if replica.is_coming:
                    self.loads[replica.node] += replica.is_loading
                elif rules.leaves_soon(replica):
                    self.release(replica)
                elif not replica.is_stuck:
                    _add(self._late[replica.node], full_needs(replica.needs), 1)

    def release(self, replica: ReplicaView) -> None:
        """A replica begins to leave: its room will come free."""
        _add(self._coming[replica.node], full_needs(replica.needs), 1)

    def fits_now(self, placement: Placement) -> bool:
        """Whether a placement has room at this moment."""
        return self._fits(placement)

    def fits_soon(self, placement: Placement) -> bool:
        """Whether it will have room in a moment."""
        return self.fits_with(placement, {})

    def fits_late(self, placement: Placement) -> bool:
        """Whether it will have room when all that leave have left."""
        return self.fits_with(placement, self._late.get(placement.node, {}))

    def fits_with(self, placement: Placement, extra: Bytes) -> bool:
        """Whether it would have room in a moment with ``extra`` bytes more."""
        return self._fits(placement, self._coming.get(placement.node, {}), extra)

    def _fits(self, placement: Placement, *more: Bytes) -> bool:
        free = self._free.get(placement.node)
        if free is None:
            return False
        return all(
            device in free and need <= free[device] + sum(one.get(device, 0) for one in more)
            for device, need in full_needs(placement.needs).items()
        )

    def could_ever_fit(self, placement: Placement, kept: Mapping[str, Bytes]) -> bool:
        """Whether it fits beside what is never put out.

        Args:
            placement: what is to be brought in.
            kept: bytes of replicas that stay whatever comes, by node.
        """
        budget = self.budgets.get(placement.node)
        return budget is not None and _fits_beside(placement, budget, kept)

    def may_fit_again(self, placement: Placement, kept: Mapping[str, Bytes]) -> bool:
        """Whether it would fit like this on a node that is expected back in a moment."""
        budget = self._expected.get(placement.node)
        return budget is not None and _fits_beside(placement, budget, kept)

    def nearly_fits(self, placement: Placement, kept: Mapping[str, Bytes]) -> bool:
        """Whether it lacks so little beside what is never put out that measuring may make it fit.

        What would not fit alone never does.
        """
        budget = self.budget_of(placement.node)
        if budget is None or not _fits_beside(placement, budget, {}):
            return False
        stretched = {
            device: count if device == HOSTS else int(count * (1 + _FLUCTUATION))
            for device, count in budget.items()
        }
        return _fits_beside(placement, stretched, kept)

    def budget_of(self, node: str) -> Bytes | None:
        """What a node may hold that shows itself or is expected back in a moment."""
        return self.budgets.get(node, self._expected.get(node))

    def overdraft(self, node: str, extra: Bytes | None = None) -> Bytes:
        """By how much a node holds more than it may, by device; nothing where it does not.

        Args:
            node: one that shows itself.
            extra: what would come free beside that which is leaving.
        """
        accounts = (self._free[node], self._coming[node], self._late[node], extra or {})
        rest = {
            device: sum(account.get(device, 0) for account in accounts)
            for device in self.budgets[node]
        }
        return {device: -count for device, count in rest.items() if count < 0}

    def take(self, placement: Placement) -> None:
        """Give room away: what is free first, then what is coming, then what is late."""
        for device, need in full_needs(placement.needs).items():
            for account in (self._free, self._coming, self._late):
                room = account[placement.node]
                taken = max(0, min(need, room[device]))
                room[device] -= taken
                need -= taken

    def block(self, node: str) -> None:
        """Keep all that is left of a node for somebody who has waited too long."""
        for account in (self._free, self._coming, self._late):
            account[node] = dict.fromkeys(account[node], 0)

    def free_bytes(self, node: str, device: str) -> int:
        """What is free of a device now, or when its node is back."""
        free = self._free.get(node, self._free_when_back.get(node, {}))
        return max(0, free.get(device, 0))


def full_needs(needs: Bytes) -> Bytes:
    """What a replica needs, its place among the hosts included."""
    return {**needs, HOSTS: 1}


def total(replicas: Iterable[ReplicaView]) -> Bytes:
    """What several replicas need together."""
    together: dict[str, int] = {}
    for replica in replicas:
        _add(together, full_needs(replica.needs), 1)
    return together


def _budget(node: NodeView) -> Bytes:
    return {**node.budgets, HOSTS: node.max_replicas}


def _fits_beside(placement: Placement, budget: Bytes, kept: Mapping[str, Bytes]) -> bool:
    held = kept.get(placement.node, {})
    return all(
        need <= budget.get(device, -1) - held.get(device, 0)
        for device, need in full_needs(placement.needs).items()
    )


def _add(account: dict[str, int], amounts: Bytes, sign: int) -> None:
    for device, amount in amounts.items():
        account[device] = account.get(device, 0) + sign * amount
