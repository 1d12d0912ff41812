"""`python -m tests.golden`: replays recorded exchanges of a kube-apiserver against an API server of ours and fails below a floor.

The recording lies beside the checkout or where $KUBECOSM_GOLDEN says (a file, or a folder that holds `api.jsonl.gz`); without one
nothing is done, in one line. The server is started for it, alone, since nothing else ran when the exchanges were recorded.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubecosm.client.config import ClientConfig
from kubecosm.cluster.launch import Options
from kubecosm.cluster.running import RunningCluster
from tests.golden.exchanges import SERVICE_RANGE, Exchange, decoded, differences, masked, read
from tests.golden.score import Score, below, raised, read_floor, write_floor

ROOT = Path(__file__).resolve().parent.parent.parent
BESIDE = ROOT.parent / "shared" / "golden"
FILE = "api.jsonl.gz"
TOKEN = "golden"
REQUEST_SECONDS_MAX = 30.0
PLACES_SHOWN = 6


def find_recording() -> Path | None:
    place = Path(os.environ.get("KUBECOSM_GOLDEN") or BESIDE)
    recording = place / FILE if place.is_dir() else place
    return recording if recording.is_file() else None


@contextmanager
def server() -> Iterator[ClientConfig]:
    """An API server on its own, that knows the user and the ranges of the recording."""
    with tempfile.TemporaryDirectory(prefix="kubecosm-golden-") as folder:
        tokens = Path(folder) / "tokens.csv"
        tokens.write_text(f'{TOKEN},admin,admin,"system:masters"\n', encoding="utf-8")
        flags = {
            "token-auth-file": str(tokens),
            "service-cluster-ip-range": SERVICE_RANGE,
            "policy-status": "false",
            "service-account-extra-config-maps": "openshift-service-ca.crt=service-ca.crt",
        }
        options = Options(name="golden", components=("apiserver",), flags={"apiserver": flags}, ephemeral=True)
        with RunningCluster.start(options, environ={**os.environ, "KUBECOSM_HOME": folder}) as cluster:
            cluster.wait_ready()
            yield ClientConfig.from_kubeconfig(cluster.kubeconfig)


class Connection:
    """One connection that sends requests as the recording did."""

    def __init__(self, config: ClientConfig) -> None:
        anonymous = dataclasses.replace(config, client_certificate_data=b"", client_key_data=b"")
        address = urlsplit(config.server).netloc
        self._connection = http.client.HTTPSConnection(address, context=anonymous.ssl_context(), timeout=REQUEST_SECONDS_MAX)

    def call(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, Any]:
        """(status, decoded body)."""
        sent = {"Accept": "application/json", "User-Agent": "golden/1", "Authorization": f"Bearer {TOKEN}"}
        if body is not None:
            sent["Content-Type"] = "application/json"
        self._connection.request(method, path, body, sent | headers)
        answer = self._connection.getresponse()
        return answer.status, decoded(answer.read())

    def prepare(self, namespace: str) -> None:
        """The namespace of a document, with the account that admission looks for."""
        for path, kind, name in (
            ("/api/v1/namespaces", "Namespace", namespace),
            (f"/api/v1/namespaces/{namespace}/serviceaccounts", "ServiceAccount", "default"),
        ):
            self.call("POST", path, json.dumps({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}).encode(), {})


def replay(connection: Connection, exchanges: Iterator[Exchange], show: int) -> Score:
    """Sends all requests one after the other; prints the first `show` answers that differ."""
    score, prepared, shown = Score(), set[str](), 0
    for exchange in exchanges:
        if exchange.namespace not in prepared:
            connection.prepare(exchange.namespace)
            prepared.add(exchange.namespace)
        status, got = connection.call(exchange.method, exchange.path, exchange.body, exchange.headers)
        alike = status == exchange.status
        found = list(differences(masked(exchange.response), masked(got))) if alike else [("status", exchange.status, status)]
        score.add(exchange.kind_of_operation, alike=alike, identical=not found)
        if found and shown < show:
            shown += 1
            print(f"-- {exchange.document} {exchange.operation} {exchange.method} {exchange.path}")
            for place, want, mine in found[:PLACES_SHOWN]:
                print(f"   {place}: want {json.dumps(want)[:200]} got {json.dumps(mine)[:200]}")
    return score


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N answers that differ")
    help_only = "only exchanges whose document, operation or path holds the text; no floor"
    parser.add_argument("--only", default="", metavar="TEXT", help=help_only)
    parser.add_argument("--raise-floor", action="store_true", help="write the figures down as the new floor, which never sinks")
    options = parser.parse_args()
    recording = find_recording()
    if recording is None:
        print("golden: skipped, there are no recorded exchanges of a kube-apiserver here (KUBECOSM_GOLDEN names a place)")
        return 0
    chosen = (e for e in read(recording) if options.only in f"{e.document} {e.operation} {e.path}")
    with server() as config:
        score = replay(Connection(config), chosen, options.show)
    print("\n".join(score.lines()))
    if options.only:
        return 0
    floor, figures = read_floor(), score.percent()
    if options.raise_floor:
        write_floor(raised(figures, floor))
    complaints = below(figures, floor)
    print("\n".join(complaints) if complaints else f"golden: not below the floor of {floor}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
