"""Which account a server runs as: Postgres refuses root, so root lends it a service account.

A home below a directory that the account cannot enter (``/root``) is not opened up for it. The
server is then given one Linux capability, the right to read and pass directories, and nothing else
of root's. That gives away nothing to others of the same account: the server's socket lies below
the very directory that they cannot enter.
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

from inference_site.embedded.errors import EmbeddedServerError

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
    """Who a server runs as, and the Linux capability it needs to reach its files, if any."""

    name: str
    uid: int
    gid: int
    capability: int | None = None


def service_account(data_directory: Path, binary: Path) -> Account | None:
    """The account for a server that this process starts; None means the user's own.

    Args:
        data_directory: the server's data; its owner, if there is one, stays its owner.
        binary: the server's program, which the account must be able to run.

    Raises:
        EmbeddedServerError: root has no account to lend, or the account cannot reach the files.
    """
    if os.geteuid() != 0:
        return None
    entry = _password_entry(data_directory)
    if _reaches(entry, binary, data_directory.parent):
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    # Containers often lack the first of these rights.
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if _LINUX and _libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, capability)
    raise EmbeddedServerError(
        f"the servers run as {entry.pw_name!r} (Postgres refuses root), which cannot enter "
        f"{data_directory.parent} or run {binary}: put both in a directory that it can enter, "
        "set DATABASE_URL and REDIS_URL, or start as another user"
    )


def demotion(account: Account | None, death_signal: signal.Signals) -> Callable[[], None]:
    """What a child does between fork and exec: become ``account``, and die with its parent.

    Args:
        account: the account to become, or None to stay.
        death_signal: sent to the child by the kernel when its parent has died (Linux only).
    """
    parent = os.getpid()

    def demote() -> None:
        if account is not None:
            _become(account)
        if _LINUX:
            # After the change of user, which clears it.
            _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return demote


def give_directory(path: Path, account: Account | None, mode: int = 0o700) -> None:
    """Make ``path`` with a mode, and give it to ``account``.

    Another server's keeper may do the same at once, so a mode that is right is not touched.

    Raises:
        EmbeddedServerError: it is a link, or belongs to somebody else.
    """
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
                f"{data_directory} belongs to user {owner}, whom this machine does not know: "
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
    """Whether the account can run ``binary`` and enter ``directory``, asked of the kernel."""
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
