"""Runs code that a model wrote: in a process without files, network, children or much time."""

import re
import subprocess
import sys
from functools import lru_cache
from typing import Final

import msgspec

_SECONDS: Final = 3
_PASSED: Final = "all asserts passed"
_BLOCK: Final = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)

# The hook stays until the process ends. With no free descriptor nothing can be opened, not even
# by ways that have no audit event.
_HARNESS: Final = f"""
import bisect, collections, datetime, functools, heapq, itertools, json, math, operator, random
import re, resource, string, sys, typing
code, checks = json.load(sys.stdin)
limits = dict(CPU={_SECONDS}, AS=512 << 20, FSIZE=0, NOFILE=3, CORE=0)
for name, most in limits.items():
    resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
denied = set("os socket subprocess open resource ctypes shutil signal fcntl pty mmap sys gc "
             "_thread cpython pickle marshal".split())
def deny(event, _):
    if event.partition(".")[0] in denied:
        raise PermissionError(event)
real, sys.stdout, names = sys.stdout, None, {{"__name__": "answer"}}
sys.addaudithook(deny)
exec(compile(code, "answer", "exec"), names)
for check in checks:
    assert eval(check, names), check
sys.stdout = real
print({_PASSED!r})
"""


def code_of(text: str) -> str:
    """The first block of code in an answer; without one, the whole answer."""
    found = _BLOCK.search(text)
    return (found[1] if found else text).strip()


@lru_cache(maxsize=4096)
def passes(code: str, asserts: tuple[str, ...]) -> bool:
    """Tell whether all asserts are true after the code has run."""
    try:
        ended = subprocess.run(
            [sys.executable, "-I", "-c", _HARNESS],
            input=msgspec.json.encode([code, asserts]),
            capture_output=True,
            cwd="/",
            env={},
            timeout=2 * _SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0 and ended.stdout.decode().strip() == _PASSED
