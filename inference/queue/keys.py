"""Names of everything the service keeps in Redis. One Redis, not a cluster: scripts derive names.

brigade:queue:<version key>   sorted set   waiting generation id → order score
brigade:bell:<version key>    list         gets an entry at every enqueue; idle hosts block on it
brigade:item:<id>             hash         payload, deadline, score, enqueued, owner, crashes, day,
                                           waited (seconds in the queue until it was claimed),
                                           cancelled; after the death of a host also waits_since,
                                           ended (its last frame if it is cancelled), failed_rest
                                           (the end of its last frame if it is refused)
brigade:stream:<id>           stream       the numbered frames of one generation
brigade:header:<run id>       string       header of a run, for resume and stop
brigade:hosts                 sorted set   launch id → last heartbeat, loading or ready
brigade:ready:<version key>   sorted set   launch id → last heartbeat, ready only
brigade:host:<launch id>      hash         version, node, live figures, left (it ended in order)
brigade:claims:<launch id>    hash         generation id → "1" once it is proven harmless
brigade:control:<launch id>   list         messages for one host
brigade:dead                  set          launch ids whose claims are being given back
brigade:attempts:<digest>     string       logins tried in this minute, per user and address
brigade:fenced:<launch id>    string       this launch was declared dead: it must write no more
brigade:host_log:<launch>     string       last lines of the log of a host that died
brigade:node:<name>           string       launches that run on this node, whose cluster takes tasks
brigade:loadable              set          "", and version keys that the controller loads if asked
brigade:loading               hash         version key → how far it is on its way into memory
brigade:used                  hash         version key → when it was last asked for, or at work
brigade:keep_alive            hash         version key → seconds that the last request named
brigade:ledger:<day>          hash         computed tokens of a day's requests (days since 1970)
brigade:source:<id>           string       "<generation id> <ledger day>": the generation that
                                           answers <id>, where several requests may share one
brigade:readers:<id>          sorted set   ids that read a shared generation → when they give it up
brigade:flight:<key>          string       id of the generation that makes the answer of this key
brigade:cache:<key>           stream       a cached answer
brigade:cache_use             sorted set   its key → last use; the oldest goes when there is no room
brigade:needed         hash         run of several models → until when this holds, and by version
                                    key the phases until its next call
brigade:retyped:<key>         string       canonical question → key of an answer
"""

import hashlib

PREFIX = "brigade:"
HOSTS = PREFIX + "hosts"
DEAD = PREFIX + "dead"
LOADABLE = PREFIX + "loadable"
LOADING = PREFIX + "loading"
USED = PREFIX + "used"
KEEP_ALIVE = PREFIX + "keep_alive"
NEEDED = PREFIX + "needed"

queue = "brigade:queue:{}".format
bell = "brigade:bell:{}".format
item = "brigade:item:{}".format
stream = "brigade:stream:{}".format
header = "brigade:header:{}".format
ready = "brigade:ready:{}".format
host = "brigade:host:{}".format
claims = "brigade:claims:{}".format
control = "brigade:control:{}".format
fenced = "brigade:fenced:{}".format
host_log = "brigade:host_log:{}".format
node = "brigade:node:{}".format
ledger = "brigade:ledger:{}".format
source = "brigade:source:{}".format
cached = "brigade:cache:{}".format
retyped = "brigade:retyped:{}".format
flight = "brigade:flight:{}".format


def attempts(who: str) -> str:
    return f"{PREFIX}attempts:{hashlib.sha256(who.encode()).hexdigest()}"
