"""Every service folder has the same shape: `__main__.py`, `config.py` with Config, `app.py` with serve."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("apiserver", "controller", "kubelet", "proxy", "scheduler")
MAIN_LINES_MAX = 30


def test_the_services_are_those_of_the_architecture() -> None:
    assert tuple(sorted(path.name for path in (ROOT / "services").iterdir() if (path / "__init__.py").exists())) == SERVICES


@pytest.mark.parametrize("service", SERVICES)
class TestService:
    def test_main_only_calls_the_bootstrap(self, service: str) -> None:
        source = (ROOT / "services" / service / "__main__.py").read_text()
        assert len(source.splitlines()) <= MAIN_LINES_MAX
        assert f'main("{service}", Config, serve)' in source

    def test_config_is_a_frozen_dataclass_whose_flags_have_help(self, service: str) -> None:
        from kubecosm.runtime.flags import flags_of

        config = importlib.import_module(f"kubecosm.services.{service}.config").Config
        assert dataclasses.is_dataclass(config)
        assert config.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert [flag.name for flag in flags_of(config, service) if not flag.help] == []

    def test_serve_takes_its_effects_as_arguments(self, service: str) -> None:
        serve = importlib.import_module(f"kubecosm.services.{service}.app").serve
        assert inspect.iscoroutinefunction(serve)
        parameters = inspect.signature(serve).parameters
        assert list(parameters) == ["config", "clock", "stop", "on_ready"]
        assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ("clock", "stop", "on_ready"))
