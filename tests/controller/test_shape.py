"""Thirty controllers, one shape: what reads alike must be built alike."""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from pathlib import Path

import pytest

from kubecosm.client.controller import ControllerSpec
from kubecosm.runtime.errors import StartupError
from kubecosm.services.controller.config import Config
from kubecosm.services.controller.names import ELSEWHERE, OLD_NAMES, check_names, is_enabled
from kubecosm.services.controller.table import NAMES, TABLE, Row, load

ROOT = Path(__file__).resolve().parents[2] / "services" / "controller"
FOLDERS = ("workloads", "network", "cluster", "storage", "certificates")
MODULE_LINES_MAX = 400
MODULES = sorted(path for folder in (*FOLDERS, "common") for path in (ROOT / folder).rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_row_of_the_table_is_a_controller(row: Row) -> None:
    controller = load(row, Config())
    assert isinstance(controller.SPEC, ControllerSpec)
    assert inspect.iscoroutinefunction(controller.reconcile)
    assert not row.workers_flag or controller.SPEC.workers == getattr(Config(), row.workers_flag)


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert len({load(row, Config()).SPEC.name for row in TABLE}) == len(TABLE)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_are_short_and_know_no_transport(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MODULE_LINES_MAX
    assert ast.get_docstring(tree_of(path))
    assert "aiohttp" not in source
    assert "asyncio.Queue" not in source


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_plans_are_pure(path: Path) -> None:
    for function in functions(path):
        if not function.name.startswith("plan_"):
            continue
        assert isinstance(function, ast.FunctionDef), f"{function.name} must not be async"
        names = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
        assert not names & {"ctx", "client", "clock"}, f"{function.name} must take values, not effects"
        called = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
        assert "monotonic" not in called


def controller_of(path: Path) -> str:
    """`workloads/replicaset` for workloads/replicaset.py and everything in workloads/replicaset/."""
    return "/".join(path.relative_to(ROOT).with_suffix("").parts[:2])


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_controllers_do_not_import_each_other(row: Row) -> None:
    module = import_module(f"kubecosm.services.controller.{row.module}")
    place = Path(str(module.__file__))
    paths = place.parent.rglob("*.py") if place.name == "__init__.py" else [place]
    own = row.module.replace(".", "/")
    others = {other.module.replace(".", "/") for other in TABLE} - {own}
    for path in paths:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = path.parents[node.level - 1]
                target = (base / (node.module or "").replace(".", "/")).relative_to(ROOT).as_posix()
                assert target not in others, f"{path} imports the controller {target}"


@pytest.mark.parametrize(
    ("chosen", "enabled"),
    [
        (("*",), True),
        (("*", "-job-controller"), False),
        (("*", "-job"), False),
        (("job",), True),
        (("deployment",), False),
        (("job-controller", "-job-controller"), True),
    ],
    ids=["all", "not this", "not this by its old name", "only this", "only another", "named wins"],
)
def test_the_controllers_flag_chooses(chosen: tuple[str, ...], enabled: bool) -> None:
    assert is_enabled("job-controller", chosen) is enabled


def test_an_unknown_controller_is_one_clear_error() -> None:
    with pytest.raises(StartupError, match='"nonsense" is not in the list of known controllers'):
        check_names(["*", "-nonsense"], NAMES)


def test_names_of_kubernetes_are_taken_old_ones_and_those_of_controllers_that_are_not_here() -> None:
    check_names(["*", "bootstrapsigner", "tokencleaner", "-nodeipam", "-service-lb-controller", "-route"], NAMES)
    assert is_enabled("bootstrap-signer-controller", ["*", "bootstrapsigner"], on_by_default=False)
    assert not is_enabled("node-ipam-controller", ["*", "-nodeipam"])
    assert OLD_NAMES.keys() <= set(NAMES)
    assert not ELSEWHERE & set(NAMES)
