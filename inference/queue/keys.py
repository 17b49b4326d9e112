"""Names of everything the service keeps in Redis. One Redis, not a cluster: scripts derive names.

brigade:queue:<version key>   sorted set   generation id → order score
brigade:bell:<version key>    list         rung at every enqueue; idle hosts block on it
brigade:item:<id>             hash         payload, deadline, score, enqueued, owner, crashes,
                                           cancelled, ended (its last frame if it is cancelled)
brigade:stream:<id>           stream       the numbered frames of one generation
brigade:run:<run id>          hash         owner and shape of a run, for resume and stop
brigade:hosts                 sorted set   launch id → last heartbeat, loading or ready
brigade:ready:<version key>   sorted set   launch id → last heartbeat, ready only
brigade:host:<launch id>      hash         version, node, live figures, left (it ended in order)
brigade:claims:<launch id>    hash         generation id → "1" once it is proven harmless
brigade:control:<launch id>   list         messages for one host
brigade:dead                  set          launch ids whose claims are being given back
brigade:attempts:<digest>     string       logins tried in this minute, per user and address
brigade:fenced:<launch id>    string       this launch was given up: it must write no more
brigade:host_log:<launch>     string       last lines of the log of a host that died
brigade:node:<name>           string       launches that run on this node, whose cluster takes tasks
brigade:loadable              set          "", and version keys that the controller loads if asked
brigade:loading               hash         version key → how far it is on its way into memory
brigade:used                  hash         version key → when it was last asked for, or at work
brigade:keep_alive            hash         version key → seconds that the last request named
"""

import hashlib

PREFIX = "brigade:"
HOSTS = PREFIX + "hosts"
DEAD = PREFIX + "dead"
LOADABLE = PREFIX + "loadable"
LOADING = PREFIX + "loading"
USED = PREFIX + "used"
KEEP_ALIVE = PREFIX + "keep_alive"


def queue(version_key: str) -> str:
    """Waiting generations of a version."""
    return f"{PREFIX}queue:{version_key}"


def bell(version_key: str) -> str:
    """What idle hosts of a version block on."""
    return f"{PREFIX}bell:{version_key}"


def item(generation_id: str) -> str:
    """A generation from enqueue to its last frame."""
    return f"{PREFIX}item:{generation_id}"


def stream(generation_id: str) -> str:
    """The frames of a generation."""
    return f"{PREFIX}stream:{generation_id}"


def header(run_id: str) -> str:
    """The header of a run."""
    return f"{PREFIX}header:{run_id}"


def ready(version_key: str) -> str:
    """Hosts that serve a version."""
    return f"{PREFIX}ready:{version_key}"


def host(launch_id: str) -> str:
    """Facts and live figures of a host."""
    return f"{PREFIX}host:{launch_id}"


def claims(launch_id: str) -> str:
    """Generations a host has claimed."""
    return f"{PREFIX}claims:{launch_id}"


def control(launch_id: str) -> str:
    """Messages for a host."""
    return f"{PREFIX}control:{launch_id}"


def attempts(who: str) -> str:
    """How often a user was tried from one address in this minute."""
    return f"{PREFIX}attempts:{hashlib.sha256(who.encode()).hexdigest()}"


def fenced(launch_id: str) -> str:
    """Present once a host was given up for dead."""
    return f"{PREFIX}fenced:{launch_id}"


def host_log(launch_id: str) -> str:
    """Last lines of the log of a host that died, published by its node."""
    return f"{PREFIX}host_log:{launch_id}"


def node(name: str) -> str:
    """Present while the cluster of model hosts of a node takes tasks."""
    return f"{PREFIX}node:{name}"
