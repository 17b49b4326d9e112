"""Which room may know which: the rules of docs/architecture.md, read off the imports."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LEAVES = {"metrics", "caching", "models_registry"}
APPS = LEAVES | {"inference", "inference_site"}

# What each room of an app may import of the others; a new room needs a line here.
ROOMS: dict[str, dict[str, set[str]]] = {
    "models_registry": {
        "errors": set(),
        "clock": set(),
        "rules": {"errors"},
        "gguf": {"rules"},
        "sources": {"errors", "gguf"},
        "models": {"rules", "sources"},
        "migrations": {"models", "rules"},
        "audit": {"models"},
        "seed": {"models"},
        "files": {"gguf", "rules", "sources", "models", "audit", "errors"},
        "catalogue": {"rules", "sources", "models", "seed", "audit", "files", "errors"},
        "plan": {"rules"},
        "fleet": {
            *("rules", "gguf", "models", "audit", "files", "catalogue", "plan"),
            *("errors", "clock"),
        },
        "access": set(),
        "tasks": {"files"},
        "apps": {"access", "audit", "tasks"},
        "admin": {
            *("rules", "sources", "models", "audit", "files", "catalogue", "plan", "fleet"),
            *("access", "errors"),
        },
        "management": {
            *("gguf", "sources", "models", "files", "catalogue", "fleet", "errors"),
        },
    },
    "inference": {
        # words that everybody uses
        "conf": set(),
        "errors": set(),
        "messages": set(),
        "request_id": set(),
        "tracing": {"messages", "request_id"},
        # rows
        "database": set(),
        "models": set(),
        "migrations": {"models"},
        "principal": {"errors", "models"},
        # transport, and computing
        "queue": {"messages", "errors", "conf"},
        "streams": {"messages", "errors", "conf", "queue"},
        "engine": {"messages"},
        "redis_figures": {"queue"},
        "apps": {"redis_figures", "models"},
        "ledger": {"messages", "queue", "conf", "models", "errors"},
        # the two sides of the queue
        "prompts": {"engine", "errors"},
        "cluster": {"queue"},
        "replica": {"cluster", "engine", "queue", "messages", "conf", "tracing"},
        "controller": {"ledger", "cluster", "queue", "messages", "errors", "conf"},
        "orders": {"prompts", "messages", "errors", "conf", "database"},
        "answers": {"orders", "messages"},
        "orchestration": {"orders", "messages", "errors"},
        "runs": {
            *(
                "orchestration",
                "models",
                "ledger",
                "orders",
                "answers",
                "prompts",
                "queue",
                "streams",
                "principal",
                "request_id",
            ),
            *("messages", "errors", "conf", "database"),
        },
        "pool_report": {"runs", "queue", "database"},
        # doors
        "model_manager": {
            *("runs", "pool_report", "principal", "errors", "conf", "database"),
        },
        "api": {
            *("orders", "answers", "runs", "principal", "queue", "pool_report"),
            *("model_manager", "messages", "errors", "conf", "database", "request_id", "tracing"),
        },
        "consumers": {
            *("api", "orders", "answers", "runs", "principal", "messages", "errors"),
            *("request_id", "database", "conf", "tracing"),
        },
        "admin": {
            *("models", "api", "orders", "answers", "runs", "principal", "errors", "database"),
        },
        "quantisation": set(),
        "management": {"ledger", "controller", "cluster", "quantisation", "conf"},
    },
}
LLAMA_CPP_FILES = ("inference/engine/llama/[!_]*.py", "inference/prompts/vocabulary.py")


def imported(source: str, package: str = "") -> set[str]:
    """Dotted names that a module imports, anywhere in it; ``from a import b`` gives ``a.b``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*parts, *filter(None, [node.module])]) if node.level else node.module
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def modules(*folders: str) -> Iterator[tuple[str, set[str]]]:
    """Path in the repository and imports of each module under ``folders``."""
    for folder in folders:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            place = path.relative_to(REPOSITORY)
            yield str(place), imported(path.read_text(), ".".join(place.parent.parts))


def within(name: str, package: str) -> bool:
    """Whether a dotted name is a package or lies in it."""
    return f"{name}.".startswith(f"{package}.")


def room_of(name: str, app: str) -> str:
    """The room of an app that a dotted name or a path lies in; "" for none."""
    parts = name.removesuffix(".py").replace("/", ".").split(".")
    return parts[1] if parts[0] == app and parts[1:] and parts[1] != "__init__" else ""


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import a.b as c, d", {"a.b", "d"}),
        ("from a import b, c", {"a.b", "a.c"}),
        ("def f():\n    from a.b import c", {"a.b.c"}),
        ("from . import b", {"x.y.b"}),
        ("from .a import b", {"x.y.a.b"}),
        ("from ..a import b", {"x.a.b"}),
    ],
)
def test_architecture_sees_every_form_of_import(source: str, names: set[str]):
    assert imported(source, "x.y") == names


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_architecture_leaves_import_no_other_app(leaf: str):
    others = APPS - {leaf}
    assert not [
        (path, name)
        for path, names in modules(leaf)
        for name in names
        if any(within(name, other) for other in others)
    ]


def test_architecture_nobody_imports_the_root():
    assert not [
        (path, name)
        for path, names in modules(*(APPS - {"inference_site"}))
        for name in names
        if within(name, "inference_site")
    ]


@pytest.mark.parametrize("app", ROOMS)
def test_architecture_rooms_import_downward(app: str):
    rooms = ROOMS[app]
    seen = {room_of(path, app) for path, _ in modules(app)} - {""}
    assert seen == rooms.keys()
    assert not [
        f"{path} imports {name}"
        for path, names in modules(app)
        for name in sorted(names)
        if (room := room_of(name, app)) in rooms
        and room not in rooms[room_of(path, app)] | {room_of(path, app)}
    ]


@pytest.mark.parametrize("app", ROOMS)
def test_architecture_rooms_have_no_cycle(app: str):
    order = list(ROOMS[app])
    for room, below in ROOMS[app].items():
        assert below <= set(order[: order.index(room)]), room


def test_architecture_engine_knows_neither_django_nor_the_registry():
    outside = {"django", "redis", "channels", *LEAVES}
    assert not [
        (path, name)
        for path, names in modules("inference/engine")
        for name in names
        if any(within(name, other) for other in outside)
    ]


def test_architecture_llama_cpp_has_few_doors():
    allowed = {
        str(path.relative_to(REPOSITORY))
        for pattern in LLAMA_CPP_FILES
        for path in REPOSITORY.glob(pattern)
    }
    importers = {
        path for path, names in modules(*APPS) if any(within(name, "llama_cpp") for name in names)
    }
    assert importers == allowed


@pytest.mark.parametrize(
    "start",
    ["import inference_site.asgi, inference_site.urls", "import inference.replica.replica_task"],
)
def test_architecture_llama_cpp_is_not_loaded_at_start(start: str):
    """The web process shall not carry it, and a fork after its import would break its threads."""
    program = f"import sys, django\ndjango.setup()\n{start}\nsys.exit('llama_cpp' in sys.modules)"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "inference_site.settings"}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
