"""The account that a server runs as: Postgres refuses root, so root uses a service account.

Below a directory that the account cannot enter (``/root``), the server gets a Linux capability: to
read and pass directories. Other processes of the account still cannot reach its socket.
"""

import ctypes
import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference_site.embedded import EmbeddedServerError

_CANDIDATES = ("postgres", "nobody")
# linux/prctl.h and linux/capability.h
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAPBSET_READ = 1, 8, 23
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_LINUX = sys.platform == "linux"
# Opened here: between fork and exec nothing may be imported.
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Account:
    """A user, and the Linux capability that a server needs to reach its files, if any."""

    name: str
    uid: int
    gid: int
    capability: int | None = None


def service_account(data_directory: Path, binary: Path) -> Account | None:
    """Return the account for a server that this process starts; None for the user's own.

    An existing ``data_directory`` keeps its owner. The account must be able to run ``binary``.
    """
    if os.geteuid() != 0:
        return None
    entry = _password_entry(data_directory)
    if _reaches(entry, binary, data_directory.parent):
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    # Containers often lack the first of these capabilities.
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if _LINUX and _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, capability)
    raise EmbeddedServerError(
        f"the servers run as {entry.pw_name!r} (Postgres refuses root), which cannot enter "
        f"{data_directory.parent} or run {binary}: put both in a directory that it can enter, "
        "set DATABASE_URL and REDIS_URL, or start as another user"
    )


def demotion(account: Account | None, death_signal: signal.Signals) -> Callable[[], None]:
    """Return a ``preexec_fn``: become ``account``; on Linux, die with the parent."""
    parent = os.getpid()

    def demote() -> None:
        if account is not None:
            _become(account)
        if _LINUX:
            # After the change of user, which would clear it.
            _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return demote


def give_directory(path: Path, account: Account | None, mode: int = 0o700) -> None:
    """Create a directory of ``account``; another server's watchdog may do the same at once."""
    path.mkdir(mode=0o700, exist_ok=True)
    owner = account.uid if account else os.geteuid()
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner, os.geteuid()):
        raise EmbeddedServerError(
            f"{path} is a link or belongs to user {found.st_uid}, not to {owner}: "
            "remove it, or start as its owner"
        )
    if stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)
    if account and found.st_uid != owner:
        os.chown(path, account.uid, account.gid)


def _password_entry(data_directory: Path) -> pwd.struct_passwd:
    if data_directory.is_dir() and (owner := data_directory.stat().st_uid) != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            raise EmbeddedServerError(
                f"{data_directory} belongs to user {owner}, which this machine does not have: "
                "chown it to the account 'postgres' or 'nobody'"
            ) from None
    for name in _CANDIDATES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedServerError(
        "Postgres refuses to run as root and there is no account 'postgres' or 'nobody' to run "
        "it as: start as another user, or set DATABASE_URL and REDIS_URL"
    )


def _reaches(entry: pwd.struct_passwd, binary: Path, directory: Path) -> bool:
    probe = ["/bin/sh", "-c", 'test -x "$0" && test -r "$0" && test -x "$1"']
    found = subprocess.run(
        [*probe, str(binary), str(directory)],
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    return found.returncode == 0


def _become(account: Account) -> None:
    if account.capability is not None:
        _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(account.gid)
    os.setuid(account.uid)
    if account.capability is None:
        return
    bits = 1 << account.capability
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable; twice, for 64 bits.
    sets = (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)
    raised = (_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, account.capability, 0, 0)
    if _libc.capset(header, sets) != 0 or _libc.prctl(*raised) != 0:
        raise OSError(ctypes.get_errno(), f"cannot keep capability {account.capability}")
