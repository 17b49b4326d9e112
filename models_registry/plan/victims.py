"""Who makes room for whom: pure."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from models_registry.plan.facts import (
    Bytes,
    NodeView,
    Placement,
    ReplicaView,
    Rules,
    VersionView,
)
from models_registry.plan.ledger import Ledger, full_needs, total
from models_registry.plan.wants import Want, stands_as_embedding

Versions = Mapping[str, VersionView]


def choose_victims(
    want: Want,
    placement: Placement,
    replicas: Iterable[ReplicaView],
    versions: Versions,
    ledger: Ledger,
    rules: Rules,
) -> list[ReplicaView] | None:
    """The replicas to put out so that a version fits: busy ones only for somebody who is starved.

    Returns:
        None where even all together would not make enough room.
    """
    movable = [
        replica
        for replica in replicas
        if replica.node == placement.node and may_be_put_out(replica, want.version, versions)
    ]

    def suffices(freed: Bytes) -> bool:
        return ledger.fits_with(placement, freed)

    ordered = _in_order(movable, versions, rules, with_busy=want.is_starved(rules))
    chosen = _fewest(ordered, full_needs(placement.needs).keys(), suffices)
    return chosen if suffices(total(chosen)) else None


def curable_overdraft(
    node: str, replicas: Iterable[ReplicaView], versions: Versions, ledger: Ledger
) -> Bytes:
    """By how much a node holds too much of the devices that it helps to put somebody out of.

    Where what stays is too much by itself, it does not help that the others leave.
    """
    movable = [
        replica
        for replica in replicas
        if replica.node == node
        and replica.occupies
        and replica.is_coming
        and not is_kept(replica, _ANYBODY, versions)
    ]
    remaining = ledger.overdraft(node, total(movable))
    over = ledger.overdraft(node)
    return {device: count for device, count in over.items() if device not in remaining}


def choose_superfluous(
    node: NodeView,
    replicas: Iterable[ReplicaView],
    versions: Versions,
    ledger: Ledger,
    rules: Rules,
    over: Bytes,
) -> list[ReplicaView]:
    """The replicas to put out so that a node holds no more than it may of the devices in ``over``.

    Idle ones go as soon as they have dwelt, busy ones when that has not been enough for the
    maximum wait. Pinned ones stay, and embedding models that are to stay go last.
    """
    movable = [
        replica
        for replica in replicas
        if replica.node == node.name and may_be_put_out(replica, _ANYBODY, versions)
    ]
    with_busy = node.overdrawn_seconds >= rules.maximum_wait_seconds
    ordered = _in_order(movable, versions, rules, with_busy=with_busy)

    def suffices(freed: Bytes) -> bool:
        return not over.keys() & ledger.overdraft(node.name, freed).keys()

    return _fewest(ordered, over.keys(), suffices)


# Stands for whoever may put out anything that is not pinned.
_ANYBODY = VersionView("", is_embedding=True)


def may_be_put_out(replica: ReplicaView, wanting: VersionView, versions: Versions) -> bool:
    """Whether a replica may ever make room for ``wanting``, busy or not.

    Pinned ones stay, and so do other copies of the same version and embedding models that anybody
    but requests wants in memory, which only another embedding model puts out. One that is only
    coming is let come.
    """
    return serves(replica) and not _is_protected(replica, wanting, versions)


def serves(replica: ReplicaView) -> bool:
    """Whether it is there, and to stay for now."""
    return replica.state == "ready" and replica.wanted and replica.is_alive


def is_idle(replica: ReplicaView, versions: Versions) -> bool:
    """Whether it has nothing to do, and nothing waits for it."""
    return not replica.busy and not versions[replica.version].queued


def idle_seconds(replica: ReplicaView, versions: Versions) -> float:
    """How long it has had nothing to do."""
    return min(versions[replica.version].idle_seconds, replica.state_age_seconds)


def kept_bytes(
    replicas: Iterable[ReplicaView],
    wanting: VersionView,
    versions: Versions,
    *,
    counting_stuck: bool = False,
) -> dict[str, Bytes]:
    """Bytes by node of what stays in memory whatever ``wanting`` may ask.

    With ``counting_stuck`` processes that may hang count too: nobody knows when they end.
    """
    kept: dict[str, list[ReplicaView]] = {}
    for replica in replicas:
        stuck = counting_stuck and replica.is_stuck
        if stuck or (replica.occupies and is_kept(replica, wanting, versions)):
            kept.setdefault(replica.node, []).append(replica)
    return {node: total(held) for node, held in kept.items()}


def is_kept(replica: ReplicaView, wanting: VersionView, versions: Versions) -> bool:
    """Whether neither waiting nor starving ever puts it out for ``wanting``."""
    return replica.is_coming and _is_protected(replica, wanting, versions)


def _is_protected(replica: ReplicaView, wanting: VersionView, versions: Versions) -> bool:
    version = versions[replica.version]
    if replica.version == wanting.key:
        return True
    return version.pinned or (_stays(replica, version) and not wanting.is_embedding)


def _stays(replica: ReplicaView, version: VersionView) -> bool:
    """Whether it is of an embedding model that is to be there whatever comes and goes."""
    return version.is_embedding and (stands_as_embedding(version) or not replica.on_demand)


def _in_order(
    movable: Iterable[ReplicaView], versions: Versions, rules: Rules, *, with_busy: bool
) -> list[ReplicaView]:
    """Those that have dwelt, the first to go first.

    Idle ones go before busy ones, of them those only foreseen, then the least recently used.
    Of the busy ones those whose waiting requests have the lowest priority go first, and of these
    the one that has served longest. Embedding models go after the others.
    """
    rested = [one for one in movable if one.state_age_seconds >= rules.minimum_dwell_seconds]
    idle = [one for one in rested if is_idle(one, versions)]
    busy = [one for one in rested if with_busy and not is_idle(one, versions)]
    return [
        *sorted(idle, key=lambda one: _idle_order(one, versions)),
        *sorted(busy, key=lambda one: _busy_order(one, versions)),
    ]


def _idle_order(replica: ReplicaView, versions: Versions) -> tuple[bool, bool, bool, float, int]:
    version = versions[replica.version]
    return (
        _stays(replica, version),
        not version.foreseen,
        version.is_embedding,
        -idle_seconds(replica, versions),
        replica.id,
    )


def _busy_order(replica: ReplicaView, versions: Versions) -> tuple[bool, bool, int, float, int]:
    version = versions[replica.version]
    return (
        _stays(replica, version),
        version.is_embedding,
        version.priority,
        -replica.state_age_seconds,
        replica.id,
    )


def _fewest(
    ordered: Sequence[ReplicaView],
    devices: Collection[str],
    suffices: Callable[[Bytes], bool],
) -> list[ReplicaView]:
    """The first of ``ordered`` that suffice, less those that the later ones make superfluous.

    Where not even all do, it is all that hold something of ``devices``.
    """
    chosen: list[ReplicaView] = []
    for replica in ordered:
        if suffices(total(chosen)):
            break
        if full_needs(replica.needs).keys() & devices:
            chosen.append(replica)
    for replica in list(chosen):
        others = [one for one in chosen if one is not replica]
        if suffices(total(others)):
            chosen = others
    return chosen
