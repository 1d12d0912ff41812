"""up, down, status, list, delete, logs, kubeconfig, kill, pause, resume, restart on real processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubecosm.cli.up import last_complaint
from kubecosm.cluster import nodes, spec
from kubecosm.cluster.paths import ClusterPaths
from tests.conftest import CommandLine, wait_for

pytestmark = pytest.mark.process

ONLY_APISERVER = ("--components", "apiserver", "--detach")


def status(kubecosm: CommandLine, name: str = "default") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubecosm("status", "-o", "json", "--name", name).stdout)
    return found


def component(kubecosm: CommandLine, name: str = "apiserver") -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in status(kubecosm)["components"] if c["name"] == name)
    return found


def request(
    kubecosm: CommandLine, method: str, path: str, body: Any = None, *, name: str = "default", seconds_max: float = 5
) -> tuple[int, Any]:
    """One request to a cluster's API server as its administrator."""
    paths = ClusterPaths((kubecosm.home / name).resolve())
    cluster = spec.load(paths.spec)
    assert cluster is not None
    with closing(nodes.connect(cluster, paths, seconds_max)) as connection:
        connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text[:1] == b"{" else text.decode()


@contextmanager
def open_watch(kubecosm: CommandLine) -> Iterator[http.client.HTTPResponse]:
    """A watch of ConfigMaps that stays open."""
    paths = ClusterPaths(kubecosm.home / "default")
    cluster = spec.load(paths.spec)
    assert cluster is not None
    with closing(nodes.connect(cluster, paths)) as connection:
        connection.request("GET", "/api/v1/configmaps?watch=true")
        answer = connection.getresponse()
        assert answer.status == 200
        yield answer


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}


def test_a_cluster_keeps_its_objects_and_its_port_between_starts(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    first = status(kubecosm)
    assert (first["state"], [c["state"] for c in first["components"]]) == ("Running", ["Running"])
    assert request(kubecosm, "POST", "/api/v1/namespaces/default/configmaps", config_map("kept"))[0] == 201
    kubecosm("down")
    kubecosm.wait_no_processes()
    kubecosm("status", code=1)
    kubecosm("up", *ONLY_APISERVER)
    assert status(kubecosm)["server"] == first["server"]
    assert request(kubecosm, "GET", "/api/v1/namespaces/default/configmaps/kept")[0] == 200
    kubecosm("down")


def test_a_cluster_of_fewer_nodes_forgets_the_others(kubecosm: CommandLine) -> None:
    kubecosm("up", "--nodes", "3", "--detach")
    kubecosm("down")
    kubecosm("up", "--nodes", "1", "--detach")
    assert kubecosm.kubectl("get", "nodes", "-o", "name") == "node/node-0\n"
    kubecosm("down")


def test_modules_in_the_users_directory_do_not_stand_in_for_a_clusters_own(kubecosm: CommandLine, tmp_path: Path) -> None:
    for name in ("click", "yaml", "queue", "kubecosm"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    command = [sys.executable, "-P", "-m", "kubecosm.cli", "up", "--detach"]
    subprocess.run(command, env=kubecosm.environ, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert status(kubecosm)["state"] == "Running"
    kubecosm("down")


def test_what_a_user_puts_into_the_kubeconfig_stays(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    kubecosm.kubectl("config", "set-context", "--current", "--namespace", "mine")
    kubecosm("down")
    kubecosm("up", *ONLY_APISERVER)
    assert kubecosm.kubectl("config", "view", "--minify", "-o", "jsonpath={..namespace}") == "mine"
    kubecosm("down")
    kubecosm("up", *ONLY_APISERVER, "--port", "0")  # another address: written anew
    assert "ok" in kubecosm.kubectl("get", "--raw", "/livez")
    kubecosm("down")


def test_a_killed_component_is_started_again_and_counted(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    before = component(kubecosm)
    kubecosm("kill", "apiserver")
    wait_for(lambda: component(kubecosm)["state"] == "Running" and component(kubecosm)["pid"] != before["pid"], "the apiserver is back")
    after = component(kubecosm)
    assert (after["restarts"], after["lastError"]) == (1, "killed by SIGKILL")
    assert request(kubecosm, "GET", "/readyz")[0] == 200
    kubecosm("down")


def test_a_process_that_dies_by_itself_is_started_again(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    os.kill(component(kubecosm)["pid"], signal.SIGSEGV)
    wait_for(lambda: component(kubecosm)["restarts"] == 1 and component(kubecosm)["state"] == "Running", "the apiserver is back")
    kubecosm("down")


def test_a_paused_component_does_nothing_until_it_is_resumed(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    kubecosm("pause", "apiserver")
    assert component(kubecosm)["state"] == "Paused"
    with pytest.raises(TimeoutError):
        request(kubecosm, "GET", "/livez", seconds_max=0.3)
    kubecosm("resume", "apiserver")
    assert request(kubecosm, "GET", "/livez") == (200, "ok")
    assert component(kubecosm)["state"] == "Running"
    kubecosm("pause", "apiserver")
    kubecosm("down")  # a paused process must not hold it up
    kubecosm.wait_no_processes()


def test_restart_ends_a_component_cleanly(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    before = component(kubecosm)
    kubecosm("restart", "apiserver")
    assert request(kubecosm, "GET", "/livez") == (200, "ok")  # it serves when the command ends
    assert component(kubecosm)["state"] == "Running"
    assert component(kubecosm)["pid"] != before["pid"]
    kubecosm("down")


def test_clusters_live_side_by_side(kubecosm: CommandLine) -> None:
    starting = [kubecosm.popen("up", *ONLY_APISERVER, "--name", f"c{i}") for i in range(3)]
    for process in starting:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    specs = [spec.load(kubecosm.home / f"c{i}" / "cluster.json") for i in range(3)]
    assert len({s.port for s in specs if s}) == 3
    assert len({s.slots for s in specs if s}) == 3
    assert request(kubecosm, "POST", "/api/v1/namespaces/default/configmaps", config_map("mine"), name="c0")[0] == 201
    assert request(kubecosm, "GET", "/api/v1/namespaces/default/configmaps/mine", name="c1")[0] == 404
    listed = json.loads(kubecosm("list", "-o", "json").stdout)
    assert [(c["name"], c["state"]) for c in listed] == [("c0", "Running"), ("c1", "Running"), ("c2", "Running")]
    assert "is running: stop it first" in kubecosm("delete", "--name", "c1", code=1).stderr
    kubecosm("delete", "--force", "--name", "c1")
    assert request(kubecosm, "GET", "/livez", name="c2")[0] == 200
    for name in ("c0", "c2"):
        kubecosm("down", "--name", name)
    kubecosm.wait_no_processes()


def test_an_ephemeral_cluster_deletes_itself(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER, "--ephemeral")
    assert "deleted" in kubecosm("down").stdout
    assert not (kubecosm.home / "default").exists()


def test_a_cluster_lies_where_the_user_wants_it(kubecosm: CommandLine, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / ("deep" * 20) / "cluster"  # deeper than a Unix socket address is long
    kubecosm("up", *ONLY_APISERVER, "--data-dir", str(place))
    assert status(kubecosm)["directory"] == str(place)
    assert "drop --data-dir" in kubecosm("up", *ONLY_APISERVER, "--data-dir", str(tmp_path / "other"), code=1).stderr
    kubecosm("down")
    kubecosm("delete")
    assert not place.exists()
    assert kubecosm("list").stdout.startswith("No clusters")


def test_the_kubeconfig_is_printed(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    printed = kubecosm("kubeconfig").stdout
    assert "current-context: kubecosm-default" in printed
    assert Path(kubecosm("kubeconfig", "--path").stdout.strip()).read_text() == printed
    kubecosm("down")


def test_logs_are_shown_and_followed(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    first = [json.loads(line) for line in kubecosm("logs").stdout.splitlines()]
    assert {"supervisor", "apiserver"} <= {line["component"] for line in first}
    assert [line["ts"] for line in first] == sorted(line["ts"] for line in first)
    follower = kubecosm.popen("logs", "supervisor", "--follow", "--tail", "1")
    assert follower.stdout is not None
    follower.stdout.readline()  # it has read what there was
    kubecosm("kill", "apiserver")
    assert "killed by SIGKILL" in follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    follower.communicate(timeout=10)
    assert follower.returncode == 0
    kubecosm("down")


def start_in_foreground(kubecosm: CommandLine) -> subprocess.Popen[str]:
    process = kubecosm.popen("up", "--components", "apiserver")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Stop it:"):
            return process
    raise AssertionError("the cluster did not start")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_foreground_stops_in_under_a_second_with_watches_open(kubecosm: CommandLine, number: int) -> None:
    process = start_in_foreground(kubecosm)
    with open_watch(kubecosm):
        begun = time.monotonic()
        process.send_signal(number)
        process.wait(timeout=10)
        kubecosm.wait_no_processes()
        assert time.monotonic() - begun < 1.0
    output, _ = process.communicate()
    if number == signal.SIGINT:
        assert process.returncode == 0
        assert "Cluster default is stopped" in output


def test_down_stops_in_under_a_second_with_watches_open(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    with open_watch(kubecosm):
        begun = time.monotonic()
        kubecosm("down")
        assert time.monotonic() - begun < 1.0
    assert kubecosm.processes() == []


def test_a_stop_leaves_no_traceback_in_the_log(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    with socket.socket(socket.AF_UNIX) as client:  # somebody who follows the cluster
        client.connect(str(ClusterPaths(kubecosm.home / "default").socket))
        client.sendall(b'{"op": "watch"}\n')
        assert client.recv(65536)
        kubecosm("down")
    assert "Traceback" not in (kubecosm.home / "default" / "logs" / "supervisor.log").read_text()


def test_the_newest_complaint_of_a_late_component_is_found(tmp_path: Path) -> None:
    log = tmp_path / "kubelet.log"
    lines = [{"level": "error", "event": "old"}, {"level": "warning", "event": "cannot register", "error": "disk is full"}]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, {"level": "info"}]) + '{"level": "err')
    assert last_complaint(log) == "cannot register: disk is full"
    assert last_complaint(tmp_path / "none.log") == ""


def test_no_process_outlives_a_killed_foreground_command(kubecosm: CommandLine) -> None:
    process = start_in_foreground(kubecosm)
    process.kill()
    process.communicate()
    kubecosm.wait_no_processes(seconds_max=5)


def test_no_process_outlives_a_killed_supervisor(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    kubecosm("pause", "apiserver")  # not even one that cannot notice by itself
    os.kill(int((kubecosm.home / "default" / "supervisor.lock").read_text()), signal.SIGKILL)
    kubecosm.wait_no_processes(seconds_max=5)
    assert "Stopped" in kubecosm("list").stdout
    kubecosm("up", *ONLY_APISERVER)
    kubecosm("down")


def test_a_dead_warm_parent_is_replaced(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    before = component(kubecosm)
    parent = int(Path(f"/proc/{before['pid']}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    wait_for(lambda: component(kubecosm)["restarts"] == 1 and component(kubecosm)["state"] == "Running", "the apiserver is back")
    assert request(kubecosm, "GET", "/livez") == (200, "ok")
    kubecosm("down")
    kubecosm.wait_no_processes()


def test_a_supervisor_that_does_not_answer_is_ended_by_down(kubecosm: CommandLine) -> None:
    kubecosm("up", *ONLY_APISERVER)
    os.kill(int((kubecosm.home / "default" / "supervisor.lock").read_text()), signal.SIGSTOP)
    assert "is stopped" in kubecosm("down").stdout
    kubecosm.wait_no_processes()
