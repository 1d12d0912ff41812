"""docs/observability.md tells how a Prometheus finds every component, and the dashboard asks for series that are there."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import CommandLine, wait_for

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "observability.md").read_text()
NAMED_PORTS = ("10249", "10250", "10257", "10259")
WORDS = {"by", "sum", "rate", "topk", "max", "le", "up"}


def with_free_ports(text: str, ports: dict[str, int]) -> str:
    return re.sub("|".join(ports), lambda found: str(ports[found[0]]), text)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@pytest.fixture
def jobs(kubecosm: CommandLine) -> Iterator[list[dict[str, Any]]]:
    """The scrape jobs of the page's configuration, for a cluster started with the page's command."""
    ports = dict(zip(NAMED_PORTS, free_ports(len(NAMED_PORTS)), strict=True))
    command, configuration = (with_free_ports(block, ports) for block in re.findall(r"```\w*\n(.*?)```", PAGE, re.DOTALL)[:2])
    kubecosm(*command.replace("\\\n", "").split()[1:])
    (cluster,) = json.loads(kubecosm("list", "-o", "json").stdout)
    configuration = configuration.replace("CLUSTER", cluster["directory"]).replace("PORT", cluster["server"].rpartition(":")[2])
    yield yaml.safe_load(configuration)["scrape_configs"]
    kubecosm("down")


def scrape(job: dict[str, Any]) -> str:
    target = job["static_configs"][0]["targets"][0]
    if job.get("scheme") == "https":
        files = job["tls_config"]
        context = ssl.create_default_context(cafile=files["ca_file"])
        context.load_cert_chain(files["cert_file"], files["key_file"])
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(target, context=context, timeout=10)
    else:
        connection = http.client.HTTPConnection(target, timeout=10)
    with closing(connection):
        connection.request("GET", job.get("metrics_path", "/metrics"))
        answer = connection.getresponse()
        assert answer.status == 200, job["job_name"]
        return answer.read().decode()


def dashboard_series() -> set[str]:
    """Names of series in the dashboard's expressions: words outside of labels and functions, histograms' as Prometheus stores them."""
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "kubecosm.json").read_text())
    found: set[str] = set()
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            bare = re.sub(r"\{[^}]*\}|by \([^)]*\)|\[[^\]]*\]", "", target["expr"])
            found |= {word for word in re.findall(r"[a-z_:]{2,}", bare) if word not in WORDS and word != "histogram_quantile"}
    return found


def test_a_prometheus_finds_every_component_and_every_series_of_the_dashboard(kubecosm: CommandLine, jobs: list[dict[str, Any]]) -> None:
    kubecosm.kubectl("run", "web", "--image=nginx", "--port=80", "--expose")
    kubecosm.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")
    kubecosm.kubectl("exec", "web", "--", "nslookup", "web")
    wanted = dashboard_series()
    assert len(wanted) > 10

    def missing() -> set[str]:
        there = {line.split("{")[0].split(" ")[0] for job in jobs for line in scrape(job).splitlines() if not line.startswith("#")}
        assert "container_memory_working_set_bytes" in there
        return wanted - there

    wait_for(lambda: not missing(), "every series of the dashboard is served")
    assert not missing()
