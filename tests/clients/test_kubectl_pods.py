"""kubectl reaches into pods: logs, exec, cp, debug, attach, run, port-forward, over SPDY and WebSockets."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import wait_for

from .conftest import Kubectl

pytestmark = pytest.mark.process
CHATTER = "echo one; echo two >&2; echo three; sleep 3600"
LIMIT = 8 * 1024 * 1024


def with_pod(kubectl: Kubectl) -> Kubectl:
    """A running pod `p` with the label app=p."""
    kubectl("run", "p", "--image=busybox", "--labels=app=p", "--env=GREETING=hello", "--", "sh", "-c", CHATTER)
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
    return kubectl


def test_logs_are_cut_as_asked(old_and_new_kubectl: Kubectl) -> None:
    kubectl = with_pod(old_and_new_kubectl)
    wait_for(lambda: kubectl("logs", "p") == "one\ntwo\nthree\n", "all lines are there")
    assert kubectl("logs", "p", "--tail=1") == "three\n"
    assert kubectl("logs", "p", "--limit-bytes=5", "--since=1h") == "one\nt"
    assert kubectl("logs", "-l", "app=p", "--prefix", "--all-containers").splitlines()[0] == "[pod/p/p] one"
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z ", line) for line in kubectl("logs", "p", "--timestamps").splitlines())
    assert 'previous terminated container "p" in pod "p" not found' in kubectl.refused("logs", "p", "--previous")
    assert "container nope is not valid" in kubectl.refused("logs", "p", "-c", "nope")


def test_logs_of_the_container_before_are_kept(kubectl: Kubectl) -> None:
    kubectl("run", "p", "--image=busybox", "--", "sh", "-c", "echo $HOSTNAME starts; exit 1")
    wait_for(lambda: kubectl.path("{.status.containerStatuses[0].restartCount}", "pod", "p") not in ("", "0"), "it is restarted")
    assert kubectl("logs", "p", "--previous") == "p starts\n"


def test_logs_are_followed_until_the_end(each_kubectl: Kubectl) -> None:
    each_kubectl("run", "p", "--image=busybox", "--restart=Never", "--", "sh", "-c", "sleep 0.5; echo first; sleep 0.5; echo last")
    each_kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/p", "--timeout=30s")
    assert each_kubectl("logs", "-f", "p") == "first\nlast\n"


def test_exec_gives_input_output_and_exit_code(each_kubectl: Kubectl) -> None:
    kubectl = with_pod(each_kubectl)
    done = kubectl.run("exec", "p", "--", "sh", "-c", "echo $GREETING; echo oops >&2; exit 3")
    assert (done.stdout, done.returncode) == ("hello\n", 3)
    assert done.stderr.splitlines() == ["oops", "command terminated with exit code 3"]
    assert kubectl("exec", "-i", "p", "--", "tr", "a-z", "A-Z", stdin="louder") == "LOUDER"
    assert 'exec: "nosuch": executable file not found in $PATH' in kubectl.refused("exec", "p", "--", "nosuch")
    assert "container other is not valid for pod p" in kubectl.refused("exec", "p", "-c", "other", "--", "true")


def test_files_are_copied_both_ways(each_kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl = with_pod(each_kubectl)
    (tmp_path / "up" / "sub").mkdir(parents=True)
    (tmp_path / "up" / "sub" / "small").write_text("text\n")
    (tmp_path / "up" / "large").write_bytes(bytes(range(256)) * 8192)
    kubectl("cp", f"{tmp_path}/up", "p:/tmp/there")
    assert kubectl("exec", "p", "--", "cat", "/tmp/there/sub/small") == "text\n"
    kubectl("cp", "p:/tmp/there", f"{tmp_path}/down")
    for name in ("sub/small", "large"):
        assert (tmp_path / "down" / name).read_bytes() == (tmp_path / "up" / name).read_bytes()
    missing = kubectl.run("cp", "p:/nope", f"{tmp_path}/nope")
    assert (missing.returncode, missing.stdout) == (1, "tar: /nope: No such file or directory\n")


def test_debug_adds_a_container_copies_a_pod_and_enters_a_node(each_kubectl: Kubectl) -> None:
    kubectl = with_pod(each_kubectl)
    debug = ("debug", "p", "--image=busybox", "-c", "probe", "-i", "--quiet", "--")
    aside = kubectl(*debug, "sh", "-c", "read line; echo $line", stdin="aside\n")
    assert aside == "aside\n"
    state = kubectl.get("pod", "p")["status"]["ephemeralContainerStatuses"][0]
    assert (state["name"], state["state"]["terminated"]["exitCode"]) == ("probe", 0)
    kubectl("debug", "p", "--copy-to=copy", "--image=busybox", "-c", "more", "--share-processes", "--", "sleep", "60")
    copied = kubectl.get("pod", "copy")["spec"]
    assert ([one["name"] for one in copied["containers"]], copied["shareProcessNamespace"]) == (["p", "more"], True)
    kubectl("debug", "p", "--copy-to=other", "--set-image=*=nginx:2", "--same-node")
    assert kubectl.path("{.spec.containers[0].image}", "pod", "other") == "nginx:2"
    text = kubectl("debug", "node/node-0", "--image=busybox", "--", "true")
    pod = re.findall(r"node-debugger-node-0-\w+", text)[0]
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{pod}", "--timeout=30s")
    spec = kubectl.get("pod", pod)["spec"]
    assert (spec["nodeName"], spec["hostNetwork"], spec["volumes"][0]["hostPath"]["path"]) == ("node-0", True, "/")


def test_run_gives_its_input_and_removes_the_pod(old_and_new_kubectl: Kubectl) -> None:
    run = ("run", "p", "--image=busybox", "--restart=Never", "-i", "--rm", "--quiet")
    assert old_and_new_kubectl(*run, "--", "sh", "-c", "read line; echo got $line", stdin="a line\n").splitlines()[0] == "got a line"
    old_and_new_kubectl("wait", "--for=delete", "pod/p", "--timeout=30s")
    run = ("run", "q", "--image=busybox", "--restart=Never", "-i", "--rm", "--")
    failed = old_and_new_kubectl.run(*run, "sh", "-c", "read line; exit 7", stdin="\n")
    assert failed.returncode == 7, failed.stderr


def test_attach_shows_what_is_written_from_now_on(old_and_new_kubectl: Kubectl) -> None:
    kubectl = old_and_new_kubectl
    script = "echo before; while [ ! -e /tmp/go ]; do sleep 0.1; echo tick; done; echo at last"
    kubectl("run", "p", "--image=busybox", "--restart=Never", "--", "sh", "-c", script)
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
    wait_for(lambda: "tick" in kubectl("logs", "p"), "it has begun")
    with subprocess.Popen([*kubectl.command, "attach", "p"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as attached:
        assert attached.stdout is not None
        first = attached.stdout.readline()  # only now it is attached
        kubectl("exec", "p", "--", "touch", "/tmp/go")
        rest = attached.stdout.read()
    assert first == "tick\n"
    assert rest.endswith("tick\nat last\n")


@contextmanager
def forwarded(kubectl: Kubectl, target: str, port: int) -> Iterator[int]:
    command = [*kubectl.command, "port-forward", target, f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r":(\d+) ->", line)
            assert found, line
            yield int(found[1])
        finally:
            process.terminate()


def test_a_forwarded_port_carries_large_answers(each_kubectl: Kubectl) -> None:
    kubectl = each_kubectl
    kubectl("run", "web", "--image=nginx", "--port=80", "--expose")
    kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")
    kubectl("exec", "web", "--", "dd", "if=/dev/urandom", "of=/usr/share/nginx/html/large", "bs=1M", "count=8")
    with forwarded(kubectl, "service/web", 80) as port:
        for _ in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/large") as answer:
                assert len(answer.read()) == LIMIT
    with forwarded(kubectl, "pod/web", 81) as port, pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)


def test_top_shows_what_pods_and_nodes_use(kubectl: Kubectl) -> None:
    uses = {"kubecosm.dev/cpu": "250m", "kubecosm.dev/memory": "64Mi"}
    pod = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "annotations": uses},
        "spec": {"containers": [{"name": "c", "image": "nginx"}]},
    }  # fmt: skip
    kubectl("create", "-f", "-", stdin=json.dumps(pod))
    kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=30s")
    wait_for(lambda: kubectl.run("top", "pods", "--no-headers").stdout.split() == ["p", "250m", "64Mi"], "the pod is measured")
    assert kubectl("top", "pods", "--containers", "--no-headers").split() == ["p", "c", "250m", "64Mi"]
    assert {line.split()[0] for line in kubectl("top", "nodes", "--no-headers").splitlines()} >= {"node-0", "node-1", "node-2"}
