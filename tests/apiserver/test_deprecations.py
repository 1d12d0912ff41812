"""Who uses deprecated resources is warned, whatever they do with them."""

from __future__ import annotations

import json
from pathlib import Path

from .harness import Api, with_api

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


def test_reading_endpoints_warns(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        reply = await api.raw("GET", "/api/v1/endpoints")
        assert reply.headers.get("Warning") == '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'

    with_api(tmp_path, check)


def test_component_statuses_warn_and_are_told_in_columns(tmp_path: Path) -> None:
    async def check(api: Api) -> None:
        for name in ("", "/etcd-0"):
            reply = await api.raw("GET", f"/api/v1/componentstatuses{name}", **TABLE)
            assert reply.headers.get("Warning") == '299 - "v1 ComponentStatus is deprecated in v1.19+"'
            assert [row["cells"] for row in json.loads(reply.text)["rows"]] == [["etcd-0", "Healthy", "ok", ""]]

    with_api(tmp_path, check)
