"""The table of conformance promises tells what the tests say of themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.promises import official_names, plain, promise

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_table_of_promises_is_what_the_tests_say() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "conformance.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_can_be_claimed_that_was_never_promised() -> None:
    with pytest.raises(ValueError, match="should make coffee"):
        promise("Watchers should make coffee")


def test_a_promise_may_be_named_with_or_without_its_labels() -> None:
    official = "[sig-api-machinery] server version should find the server version [Conformance]"
    assert promise(official).args == promise("server version should find the server version").args == (official,)


def test_plain_names_tell_promises_apart() -> None:
    assert all(plain(official) == name for name, official in official_names().items())
    assert len(official_names()) == len((ROOT / "tests" / "conformance" / "promises.txt").read_text().splitlines())
