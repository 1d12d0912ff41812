"""cluster.json and the process table derived from it."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from kubecosm.cluster import components, spec
from kubecosm.cluster.paths import ClusterPaths, check_name, home
from kubecosm.cluster.slots import Slots
from kubecosm.cluster.spec import ClusterSpec
from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.flags import flags_of

SPEC = ClusterSpec("dev", 26443, Slots(3), nodes=3, flags={"apiserver": {"log-level": "debug"}})


def test_a_saved_spec_is_loaded_the_same(tmp_path: Path) -> None:
    spec.save(tmp_path / "cluster.json", SPEC)
    assert spec.load(tmp_path / "cluster.json") == SPEC
    assert spec.load(tmp_path / "other.json") is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 99}', '{"version": 1}', '{"version": 1, "name": "x"}'])
def test_a_damaged_spec_is_told_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "cluster.json"
    path.write_text(content)
    with pytest.raises(StartupError, match="kubecosm delete"):
        spec.load(path)
    assert path.read_text() == content


def test_settings_become_flags() -> None:
    assert spec.parse_flags(("apiserver.v=4", "kubelet.--max_pods=5", "kubelet.x=a=b")) == {
        "apiserver": {"v": "4"}, "kubelet": {"max-pods": "5", "x": "a=b"},
    }  # fmt: skip


@pytest.mark.parametrize("setting", ["v=4", "apiserver.v", "nothing.v=4", "apiserver.=4"])
def test_a_wrong_setting_is_told(setting: str) -> None:
    with pytest.raises(StartupError, match=r"expected component\.flag=value"):
        spec.parse_flags((setting,))


def test_files_in_settings_are_meant_from_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = spec.parse_flags((
        "apiserver.audit_policy_file=policy.yaml", "apiserver.audit-log-path=-", "apiserver.service-account-key-file=a,/b",
        "apiserver.runtime-config=api/all", "scheduler.config=", "kubelet.image-profiles=../p.yaml",
    ))  # fmt: skip
    assert flags == {
        "apiserver": {
            "audit-policy-file": f"{tmp_path}/policy.yaml", "audit-log-path": "-", "service-account-key-file": f"{tmp_path}/a,/b",
            "runtime-config": "api/all",
        },
        "scheduler": {"config": ""},
        "kubelet": {"image-profiles": f"{tmp_path.parent}/p.yaml"},
    }  # fmt: skip


@pytest.mark.parametrize("component", sorted(spec.COMPONENTS))
def test_a_flag_that_takes_a_file_is_known_as_one(component: str) -> None:
    config = import_module(f"kubecosm.services.{component}.config").Config
    words = re.compile(r"\b(file|directory|certificate|kubeconfig|PEM)\b")
    texts = [flag for flag in flags_of(config, component) if flag.kind is str and words.search(flag.help) and "name" not in flag.help]
    unknown = {flag.name for flag in texts if not spec.names_files(flag.name)}
    assert all(name.endswith("-mode") for name in unknown), unknown


def test_components_are_put_in_start_order() -> None:
    assert spec.parse_components("proxy, apiserver") == ("apiserver", "proxy")
    with pytest.raises(StartupError, match="unknown component etcd"):
        spec.parse_components("apiserver,etcd")
    with pytest.raises(StartupError, match="needs the apiserver"):
        spec.parse_components("proxy")


@pytest.mark.parametrize("name", ["", "A", "-a", "a_b", "../x", "a" * 43])
def test_names_that_cannot_be_directories_are_refused(name: str) -> None:
    with pytest.raises(StartupError, match="invalid cluster name"):
        check_name(name)


def test_the_home_directory_follows_the_environment() -> None:
    assert home({"KUBECOSM_HOME": "/k", "XDG_STATE_HOME": "/x"}) == Path("/k")
    assert home({"XDG_STATE_HOME": "/x"}) == Path("/x/kubecosm")
    assert home({}) == Path.home() / ".local/state/kubecosm"


def test_everything_but_the_apiserver_starts_after_it() -> None:
    table = components.process_table(SPEC, ClusterPaths(Path("/c")))
    assert [process.component for process in table] == list(spec.COMPONENTS)
    assert [process.after for process in table] == [(), *[("apiserver",)] * 4]


def test_the_users_flags_win_over_the_derived_ones() -> None:
    changed = spec.changed(SPEC, flags={"apiserver": {"bind-address": "0.0.0.0"}})
    apiserver = components.process_table(changed, ClusterPaths(Path("/c")))[0]
    assert [argument for argument in apiserver.arguments if argument.startswith("--bind-address")] == ["--bind-address=0.0.0.0"]


@pytest.mark.parametrize("component", spec.COMPONENTS)
def test_every_derived_flag_is_one_that_the_component_has(component: str) -> None:
    import importlib

    config = importlib.import_module(f"kubecosm.services.{component}.config").Config
    known = {flag.name for flag in flags_of(config, component)}
    derived = components.FLAGS[component](SPEC, ClusterPaths(Path("/c")))
    assert set(derived) <= known


def test_the_spec_on_disk_is_plain_json(tmp_path: Path) -> None:
    spec.save(tmp_path / "cluster.json", SPEC)
    raw = json.loads((tmp_path / "cluster.json").read_text())
    assert raw["port"] == 26443
    assert raw["slots"] == {"first": 3, "count": 1}
