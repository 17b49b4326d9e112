"""Who makes room for whom: pure."""

from collections.abc import Iterable, Mapping, Sequence

from models_registry.residency.facts import Bytes, Placement, ReplicaView, Rules, VersionView
from models_registry.residency.ledger import Ledger, full_needs, total
from models_registry.residency.wants import Want

Versions = Mapping[str, VersionView]


def choose_victims(
    want: Want,
    placement: Placement,
    replicas: Iterable[ReplicaView],
    versions: Versions,
    ledger: Ledger,
    rules: Rules,
) -> list[ReplicaView] | None:
    """The replicas to put out so that a version fits.

    Idle ones go first, of them those only foreseen, then the least recently used before the
    others. Busy ones go only for somebody who is starved, those whose waiting requests have the
    lowest priority first, and of these the one that has served longest. Nobody goes who need not.

    Returns:
        None where even all together would not make enough room.
    """
    movable = [
        replica
        for replica in replicas
        if replica.node == placement.node and may_be_put_out(replica, want.version, versions)
    ]
    rested = [one for one in movable if one.state_age_seconds >= rules.minimum_dwell_seconds]
    idle = [one for one in rested if is_idle(one, versions)]
    chosen = sorted(
        idle,
        key=lambda one: (
            not versions[one.version].foreseen,
            -idle_seconds(one, versions),
            one.id,
        ),
    )
    if want.is_starved(rules):
        busy = [one for one in rested if not is_idle(one, versions)]
        chosen += sorted(busy, key=lambda one: _busy_order(one, versions))
    return _fewest(chosen, placement, ledger)


def may_be_put_out(replica: ReplicaView, wanting: VersionView, versions: Versions) -> bool:
    """Whether a replica may ever make room for ``wanting``, busy or not.

    Pinned ones stay, and so do those of embedding models, which only another embedding model puts
    out, and other copies of the same version. One that is only coming is let come.
    """
    if replica.state != "ready" or not replica.wanted or not replica.is_alive:
        return False
    return not _is_protected(replica, wanting, versions)


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
    return version.pinned or (version.is_embedding and not wanting.is_embedding)


def _busy_order(replica: ReplicaView, versions: Versions) -> tuple[int, float, int]:
    return (versions[replica.version].priority, -replica.state_age_seconds, replica.id)


def _fewest(
    ordered: Sequence[ReplicaView], placement: Placement, ledger: Ledger
) -> list[ReplicaView] | None:
    """The first of ``ordered`` that suffice, less those that the later ones make superfluous."""
    needed = full_needs(placement.needs)
    chosen: list[ReplicaView] = []
    for replica in ordered:
        if ledger.fits_with(placement, total(chosen)):
            break
        if needed.keys() & full_needs(replica.needs).keys():
            chosen.append(replica)
    if not ledger.fits_with(placement, total(chosen)):
        return None
    for replica in list(chosen):
        others = [one for one in chosen if one is not replica]
        if ledger.fits_with(placement, total(others)):
            chosen = others
    return chosen
