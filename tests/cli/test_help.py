"""Help is instant, and says what there is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import CommandLine

HEAVY = {"asyncio", "aiohttp", "rich", "cryptography", "orjson", "structlog", "yaml", "numpy", "uvloop", "prometheus_client", "ssl"}
COMMANDS = (
    "up", "down", "status", "logs", "kubeconfig", "kill", "pause", "resume", "restart", "list", "delete", "explain-scheduling",
)  # fmt: skip


@pytest.mark.parametrize("module", ["kubecosm.cli.commands", "kubecosm.cli.lifecycle"])
def test_the_command_line_imports_nothing_heavy(module: str) -> None:
    source = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert HEAVY.isdisjoint(done.stdout.split())


def test_help_names_every_command(kubecosm: CommandLine) -> None:
    shown = kubecosm("--help").stdout
    for command in COMMANDS:
        assert f"\n  {command} " in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(kubecosm: CommandLine, command: str) -> None:
    assert f"Usage: kubecosm {command} " in kubecosm(command, "-h").stdout


def test_version_names_kubernetes_too(kubecosm: CommandLine) -> None:
    assert "Kubernetes v1.36" in kubecosm("--version").stdout
