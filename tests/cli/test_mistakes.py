"""What goes wrong is told in one line that says what to do, with a non-zero exit code, and nothing is lost or left running."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.conftest import CommandLine

pytestmark = pytest.mark.process

ONLY_APISERVER = ("--components", "apiserver", "--detach")


def failure(kubecosm: CommandLine, *arguments: str, code: int = 1) -> str:
    """The one line that a failing command writes to stderr."""
    done = kubecosm(*arguments, code=code)
    (line,) = done.stderr.splitlines()
    assert line.startswith("kubecosm: ")
    kubecosm.wait_no_processes()
    return line


@pytest.mark.parametrize("command", [("status",), ("down",), ("logs",), ("kubeconfig",), ("kill", "apiserver"), ("delete",)])
def test_a_cluster_that_is_not_there_is_named(kubecosm: CommandLine, command: tuple[str, ...]) -> None:
    line = failure(kubecosm, *command, "--name", "nowhere")
    assert "nowhere" in line


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        pytest.param(("--components", "etcd"), "choose from apiserver, scheduler, controller, kubelet, proxy", id="component"),
        pytest.param(("--set", "apiserver=1"), "expected component.flag=value", id="setting"),
        pytest.param(("--nodes", "-1"), "a cluster has 0 to", id="nodes"),
        pytest.param(("--port", "70000"), "expected 1 to 65535", id="port"),
        pytest.param(("--name", "Über"), "use lower-case letters", id="name"),
        pytest.param(("--data-dir", "/dev/null/x"), "cannot create", id="directory"),
    ],
)
def test_wrong_options_say_what_is_right(kubecosm: CommandLine, arguments: tuple[str, ...], advice: str) -> None:
    assert advice in failure(kubecosm, "up", "--detach", *arguments)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        pytest.param("apiserver.service-account-key-file=/nowhere", "key-file /nowhere: no such file or directory", id="token-key"),
        pytest.param("apiserver.service-account-signing-key-file=/dev/null", "key-file /dev/null: it is no PEM file", id="no-key"),
        pytest.param("apiserver.proxy-client-cert-file=/nowhere", "--proxy-client-cert-file /nowhere: no such file", id="proxy"),
        pytest.param("apiserver.audit-policy-file=/nowhere", "/nowhere: no such file or directory", id="audit"),
        pytest.param("apiserver.authorization-webhook-config-file=/x", "needs --authorization-mode=Webhook", id="webhook"),
        pytest.param("apiserver.oidc-ca-file=/x", "need --oidc-issuer-url", id="oidc"),
    ],
)
def test_files_that_are_needed_later_are_missed_at_the_start(kubecosm: CommandLine, setting: str, complaint: str) -> None:
    assert complaint in failure(kubecosm, "up", *ONLY_APISERVER, "--set", setting)


def test_a_port_in_use_is_named_and_another_can_be_chosen(kubecosm: CommandLine) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        line = failure(kubecosm, "up", *ONLY_APISERVER, "--port", str(port))
        assert f"port {port} is in use" in line
        assert "--port" in line
        kubecosm("up", *ONLY_APISERVER)
        kubecosm("down")


def test_a_flag_that_a_component_does_not_have_is_told_by_it(kubecosm: CommandLine) -> None:
    line = failure(kubecosm, "up", *ONLY_APISERVER, "--set", "apiserver.secure-prt=1")
    assert "apiserver: unknown flag --secure-prt (did you mean --secure-port?): see python -m kubecosm.services.apiserver --help" in line


def test_the_options_of_a_start_that_failed_are_not_kept(kubecosm: CommandLine) -> None:
    failure(kubecosm, "up", *ONLY_APISERVER, "--set", "apiserver.secure-prt=1")
    kubecosm("up", *ONLY_APISERVER, "--set", "apiserver.anonymous-auth=false")
    kubecosm("down")
    failure(kubecosm, "up", *ONLY_APISERVER, "--set", "apiserver.authorization-mode=Nobody")
    spec = json.loads((kubecosm.home / "default" / "cluster.json").read_text())
    assert spec["flags"] == {"apiserver": {"anonymous-auth": "false"}}


def test_a_directory_with_a_comma_is_refused(kubecosm: CommandLine, tmp_path: Path) -> None:
    assert "choose a directory without a comma" in failure(kubecosm, "up", "--data-dir", str(tmp_path / "a,b"))


def test_a_directory_that_cannot_be_made_is_named(kubecosm: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert f"cannot create {file}: a file of that name exists" in failure(kubecosm, "up", "--data-dir", str(file))
    assert f"cannot create {file}/x: part of the path is not a directory" in failure(kubecosm, "up", "--data-dir", str(file / "x"))


def test_a_corrupt_database_is_told_and_left_as_it_is(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    kubecosm("down")
    (database,) = (kubecosm.home / "default" / "data").glob("*.db")
    database.write_bytes(b"this is no database" * 1000)
    for leftover in database.parent.glob("*-wal"):
        leftover.unlink()
    line = failure(kubecosm, "up", *ONLY_APISERVER)
    assert str(database) in line
    assert database.read_bytes() == b"this is no database" * 1000


def test_a_damaged_spec_is_told_and_the_cluster_can_be_deleted(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    kubecosm("down")
    (kubecosm.home / "default" / "cluster.json").write_text("{")
    assert "kubecosm delete" in failure(kubecosm, "up", *ONLY_APISERVER)
    kubecosm("delete")
    kubecosm("up", *ONLY_APISERVER)
    kubecosm("down")


def test_a_running_cluster_is_not_changed_behind_its_users(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    assert "is running" in kubecosm("up", *ONLY_APISERVER).stdout
    done = kubecosm("up", "--nodes", "7", "--detach", code=1)
    assert "is running with other options" in done.stderr
    assert json.loads(kubecosm("status", "-o", "json").stdout)["state"] == "Running"
    kubecosm("down")


def test_a_component_of_another_name_is_refused(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    done = kubecosm("kill", "etcd", code=1)
    assert "no component 'etcd' in this cluster: it has apiserver" in done.stderr
    kubecosm("down")


def test_a_log_disk_that_is_full_does_not_stop_the_cluster(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    kubecosm("down")
    logs = kubecosm.home / "default" / "logs"
    for name in ("apiserver", "supervisor"):
        (logs / f"{name}.log").unlink()
        (logs / f"{name}.log").symlink_to(Path("/dev/full"))
    kubecosm("up", *ONLY_APISERVER)
    kubecosm("down")
    kubecosm.wait_no_processes()


def test_what_cannot_be_written_at_the_start_leaves_no_process_and_no_lock(kubecosm: CommandLine) -> None:
    kubecosm.home.mkdir()
    place = kubecosm.home / "default"
    place.mkdir()
    (place / "kubeconfigs").write_text("a file where a directory should be")
    line = failure(kubecosm, "up", *ONLY_APISERVER)
    assert f"{place}/kubeconfigs" in line
    (place / "kubeconfigs").unlink()
    kubecosm("up", *ONLY_APISERVER)
    kubecosm("down")
