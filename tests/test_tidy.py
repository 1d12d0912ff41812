"""The home-made rules of this code base. Each failure names the place and what to write instead.

The allow-lists are ratchets: an entry that is no longer needed, or allows more than is used, fails too, so they only shrink.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("kubecosm", "services")
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

LONG_MODULES: dict[str, int] = {
}
"""Module → lines it may have, above MODULE_LINES_MAX. Shrinks only: split modules instead of adding here."""

LONG_FUNCTIONS: dict[str, int] = {}
"""`path:function` → lines it may have, above FUNCTION_LINES_MAX. Shrinks only."""

BROAD_EXCEPTS: dict[str, int] = {
    "kubecosm/client/runner.py": 1,  # the border of one work item
    "kubecosm/cluster/zygote.py": 1,  # an import that fails only loses its head start
    "kubecosm/runtime/service.py": 1,  # the border of the process
    "services/apiserver/http/errors.py": 1,  # the border of one request
    "services/apiserver/storage/worker.py": 1,  # the border of one storage call
    "services/kubelet/pods/worker.py": 1,  # the border of one pod's work
    "services/kubelet/server/server.py": 1,  # the border of one request
}
"""Path → number of `except Exception` (or wider) that do not end in `raise`: only at the borders of one request and one work item."""

UNBOUNDED_QUEUES: dict[str, int] = {}

NAME_LITERALS: dict[str, int] = {
    "kubecosm/client/config.py": 1,
    "services/apiserver/authz/bootstrap.py": 2,
    "services/apiserver/registry/core/pod_defaults.py": 1,
    "services/apiserver/registry/core/pod_warnings.py": 10,
    "services/apiserver/registry/core/resources.py": 1,
    "services/apiserver/registry/core/security.py": 3,
}
"""Path → string literals with `kubernetes.io/` in it, for tables that need them in place. Names stand in kubecosm/api/names.py."""

TEST_SLEEPS_ALLOWED = {"tests/conftest.py"}  # wait_for: what other processes do can only be looked at


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def modules(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found, f"no modules in {folders}"
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def check_ratchet(found: dict[str, int], allowed: dict[str, int], advice: str) -> None:
    """Fails when something is found beyond what is allowed, or the allow-list allows more than is found."""
    beyond = [f"{place}: {count} (allowed: {allowed.get(place, 0)})" for place, count in found.items() if count > allowed.get(place, 0)]
    assert not beyond, f"{advice}:\n  " + "\n  ".join(beyond)
    loose = [f"{place}: allows {count}, needs {found.get(place, 0)}" for place, count in allowed.items() if count > found.get(place, 0)]
    assert not loose, "tighten the allow-list in tests/test_tidy.py (it only shrinks):\n  " + "\n  ".join(loose)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_modules_are_short_enough_to_read() -> None:
    found = {name_of(p): lines for p in modules(*SOURCES) if (lines := len(p.read_text().splitlines())) > MODULE_LINES_MAX}
    check_ratchet(found, LONG_MODULES, f"modules of more than {MODULE_LINES_MAX} lines: give each part with a job of its own a module")


def test_functions_fit_on_a_screen() -> None:
    found = {
        f"{name_of(path)}:{function.name}": lines
        for path in modules(*SOURCES)
        for function in functions(parse(path))
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    }
    check_ratchet(found, LONG_FUNCTIONS, f"functions of more than {FUNCTION_LINES_MAX} lines: split off steps that have a name")


def test_broad_excepts_stand_only_at_borders() -> None:
    found = Counter(name_of(path) for path in modules(*SOURCES) for node in ast.walk(parse(path)) if is_broad(node))
    advice = "except Exception: name the errors that can happen; the borders of one request and one work item catch the rest"
    check_ratchet(found, BROAD_EXCEPTS, advice)


def is_broad(node: ast.AST) -> bool:
    """Whether it is an `except` of everything that lets nothing through (cleaning up and raising again is fine)."""
    if not isinstance(node, ast.ExceptHandler) or isinstance(node.body[-1], ast.Raise):
        return False
    if node.type is None:
        return True
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(isinstance(name, ast.Name) and name.id in ("Exception", "BaseException", "BaseExceptionGroup") for name in caught)


def test_every_queue_has_a_bound() -> None:
    found = Counter(name_of(path) for path in modules(*SOURCES) for node in ast.walk(parse(path)) if is_unbounded_queue(node))
    check_ratchet(found, UNBOUNDED_QUEUES, "unbounded queue: write Queue(NAMED_MAXIMUM) and say what happens when it is full")


def is_unbounded_queue(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = called_name(node)
    return name == "SimpleQueue" or (name in ("Queue", "LifoQueue", "PriorityQueue") and not node.args and not node.keywords)


def called_name(node: ast.Call) -> str:
    function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def test_well_known_names_are_spelled_out_once() -> None:
    found = Counter(
        name_of(path)
        for path in modules(*SOURCES)
        if name_of(path) != "kubecosm/api/names.py"
        for text in literals(parse(path))
        if "kubernetes.io/" in text
    )
    check_ratchet(found, NAME_LITERALS, "kubernetes.io/… literal: add a constant to kubecosm/api/names.py and use it")


def literals(tree: ast.Module) -> Iterable[str]:
    """The string literals of a module that are not docstrings."""
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.Expr))
    docs = {id(statement.value) for statement in statements}
    return (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs)


def test_tests_wait_for_conditions_and_never_sleep() -> None:
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules("tests")
        if name_of(path) not in TEST_SLEEPS_ALLOWED and not uses_virtual_time(parse(path))
        for node in ast.walk(parse(path))
        if is_sleep(node)
    ]
    assert not found, f"sleep in a test: wait for the condition (kubecosm.testing), or move virtual time: {found}"


def uses_virtual_time(tree: ast.Module) -> bool:
    """Whether a test module runs on the virtual-time loop, where a sleep only moves the clock."""
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return any((node.module or "").startswith("kubecosm.testing") and "run_virtual" in {a.name for a in node.names} for node in imports)


def is_sleep(node: ast.AST) -> bool:
    """`asyncio.sleep(…)` or `time.sleep(…)`; `asyncio.sleep(0)` only lets others run."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sleep"):
        return False
    owner = node.func.value
    yields = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
    return isinstance(owner, ast.Name) and owner.id in ("asyncio", "time") and not yields


@pytest.mark.parametrize(
    ("source", "rule", "hit"),
    [
        pytest.param("try: pass\nexcept Exception: pass", is_broad, True, id="broad-except"),
        pytest.param("try: pass\nexcept (OSError, Exception): pass", is_broad, True, id="broad-except-in-tuple"),
        pytest.param("try: pass\nexcept BaseException:\n    close()\n    raise", is_broad, False, id="cleanup-and-raise"),
        pytest.param("try: pass\nexcept OSError: pass", is_broad, False, id="named-except"),
        pytest.param("asyncio.Queue()", is_unbounded_queue, True, id="unbounded-queue"),
        pytest.param("queue.Queue[int]()", is_unbounded_queue, True, id="unbounded-generic-queue"),
        pytest.param("asyncio.Queue(MAX)", is_unbounded_queue, False, id="bounded-queue"),
        pytest.param("asyncio.sleep(0.1)", is_sleep, True, id="sleep"),
        pytest.param("asyncio.sleep(0)", is_sleep, False, id="yield"),
    ],
)
def test_the_rules_see_what_they_should(source: str, rule: object, hit: bool) -> None:
    assert callable(rule)
    assert any(rule(node) for node in ast.walk(ast.parse(source))) is hit
