"""The fleet at one moment, with the memory that is left while a plan gives it away."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from models_registry.plan.facts import Bytes, NodeView, Placement, ReplicaView, Rules, VersionView

# A device of each node: its budget is the hosts that the node may run, and a replica needs one.
HOSTS = "hosts"
# What a replica holds is measured while it works, and varies by about so much of a budget.
FLUCTUATION = 0.05


class NodeRoom:
    """Memory of one node in bytes by device, with its hosts counted as one more device.

    Free memory is negative where a measurement exceeds what was foreseen, or a budget was lowered.
    The memory of a stuck process is neither free nor leaving.
    """

    def __init__(self, node: NodeView) -> None:
        self.is_alive = node.is_alive
        self.budget = {**node.budgets, HOSTS: node.max_replicas}
        self.free = Counter(self.budget)
        self.leaving = Counter[str]()  # held by replicas that leave in a moment
        self.leaving_slowly = Counter[str]()  # held by replicas that take long to leave
        self.loads = 0

    def has_free(self, needs: Bytes, *freed: Counter[str]) -> bool:
        """Whether ``needs`` are free once the memory in ``freed`` is free too."""
        return self.is_alive and all(
            device in self.budget and need <= sum(one[device] for one in (self.free, *freed))
            for device, need in full_needs(needs).items()
        )

    def overdraft(self, *freed: Counter[str]) -> Bytes:
        """Bytes over budget by device, once all that leave have left and ``freed`` is free."""
        accounts = (self.free, self.leaving, self.leaving_slowly, *freed)
        rest = {device: sum(one[device] for one in accounts) for device in self.budget}
        return {device: -count for device, count in rest.items() if count < 0}

    def reserve(self, needs: Bytes) -> None:
        """Take what is free first, then what is leaving, then what is late."""
        for device, need in full_needs(needs).items():
            for account in (self.free, self.leaving, self.leaving_slowly):
                taken = max(0, min(need, account[device]))
                account[device] -= taken
                need -= taken

    def reserve_all(self) -> None:
        for account in (self.free, self.leaving, self.leaving_slowly):
            for device in account:
                account[device] = 0


class Room:
    """Nodes, versions and replicas, and the memory that is left beside them.

    ``nodes`` has the live ones and those expected back; nothing is placed on the latter.
    """

    def __init__(
        self,
        nodes: Iterable[NodeView],
        versions: Iterable[VersionView],
        replicas: Iterable[ReplicaView],
        rules: Rules,
    ) -> None:
        self.rules = rules
        self.versions = {version.key: version for version in versions}
        self.replicas = list(replicas)
        self.nodes = {
            node.name: NodeRoom(node) for node in nodes if node.is_alive or rules.expects(node)
        }
        for replica in self.replicas:
            node = self.nodes.get(replica.node)
            if node is None or not replica.occupies:
                continue
            needs = full_needs(replica.needs)
            node.free.subtract(needs)
            if replica.is_coming:
                node.loads += replica.is_loading
            elif rules.leaves_soon(replica):
                node.leaving.update(needs)
            elif not replica.is_stuck:
                node.leaving_slowly.update(needs)

    @property
    def fleet(self) -> dict[str, list[ReplicaView]]:
        """Replicas by version key."""
        fleet = defaultdict(list)
        for replica in self.replicas:
            fleet[replica.version].append(replica)
        return fleet

    def is_alive(self, node: str) -> bool:
        return node in self.nodes and self.nodes[node].is_alive

    def fits_now(self, placement: Placement) -> bool:
        node = self.nodes.get(placement.node)
        return node is not None and node.has_free(placement.needs)

    def fits_soon(self, placement: Placement, *freed: Counter[str]) -> bool:
        """Whether it fits once the replicas that leave soon have left, and ``freed`` is free."""
        node = self.nodes.get(placement.node)
        return node is not None and node.has_free(placement.needs, node.leaving, *freed)

    def fits_late(self, placement: Placement) -> bool:
        """Whether it fits once all replicas that leave have left."""
        node = self.nodes.get(placement.node)
        return node is not None and node.has_free(
            placement.needs, node.leaving, node.leaving_slowly
        )

    def fits_beside_kept(
        self,
        placement: Placement,
        version: VersionView,
        *,
        stretch: float = 0.0,
        with_stuck: bool = False,
    ) -> bool:
        """Whether a version fits beside the replicas that are never evicted for it.

        Together they may exceed the budget by the fraction ``stretch``; alone the version must fit.
        With ``with_stuck`` processes that may hang count as never evicted.
        """
        node = self.nodes.get(placement.node)
        if node is None:
            return False
        kept = total(
            one
            for one in self.replicas
            if one.node == placement.node
            and ((with_stuck and one.is_stuck) or (one.occupies and self.is_kept(one, version)))
        )
        limits = {
            device: count if device == HOSTS else int(count * (1 + stretch))
            for device, count in node.budget.items()
        }
        return all(
            need <= node.budget.get(device, -1) and need + kept[device] <= limits[device]
            for device, need in full_needs(placement.needs).items()
        )

    def is_kept(self, replica: ReplicaView, wanting: VersionView) -> bool:
        """Whether a replica is never evicted for another version, however long that waits.

        These are pinned ones, copies of the same version and, except for another embedding model,
        embedding models that are wanted in memory whatever requests come.
        """
        version = self.versions[replica.version]
        return replica.is_coming and (
            version.key == wanting.key
            or version.pinned
            or (self.is_protected_embedding(replica) and not wanting.is_embedding)
        )

    def is_protected_embedding(self, replica: ReplicaView) -> bool:
        version = self.versions[replica.version]
        is_wanted = version.is_standing_embedding or not replica.on_demand
        return version.is_embedding and is_wanted

    def evictable(self, node: str, wanting: VersionView) -> list[ReplicaView]:
        """Ready replicas on a node that may be evicted, busy or not."""
        return [
            one
            for one in self.replicas
            if one.node == node and one.is_available and not self.is_kept(one, wanting)
        ]

    def is_idle(self, replica: ReplicaView) -> bool:
        return replica.is_idle(self.versions[replica.version])

    def reserve(self, placement: Placement) -> None:
        self.nodes[placement.node].reserve(placement.needs)

    def retire(self, replica_ids: Iterable[int]) -> None:
        ids = set(replica_ids)
        for index, replica in enumerate(self.replicas):
            if replica.id in ids:
                if replica.occupies and replica.node in self.nodes:
                    self.nodes[replica.node].leaving.update(full_needs(replica.needs))
                self.replicas[index] = replace(replica, wanted=False)


def full_needs(needs: Bytes) -> Bytes:
    return {**needs, HOSTS: 1}


def total(replicas: Iterable[ReplicaView]) -> Counter[str]:
    together = Counter[str]()
    for replica in replicas:
        together.update(full_needs(replica.needs))
    return together
