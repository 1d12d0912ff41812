"""Requests that mean nothing, or that people type: paths out of scope, bodies without a name, odd Accept headers."""

from __future__ import annotations

from pathlib import Path

from .harness import CONFIGMAPS, Api, configmap, with_api

TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


def test_objects_of_all_namespaces_are_read_at_once_but_never_written(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("kept"))
        for method, body in (("DELETE", None), ("POST", configmap("new")), ("PUT", configmap("kept")), ("PATCH", {})):
            code, status = await api.call(method, "/api/v1/configmaps", body)
            assert (code, status["reason"]) == (405, "MethodNotAllowed"), method
        assert [item["metadata"]["name"] for item in (await api.get(CONFIGMAPS))["items"]] == ["kept"]

    with_api(tmp_path, test)


def test_one_object_is_found_in_its_namespace_alone(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("one"))
        for path in ("/api/v1/configmaps/one", "/api/v1/namespaces/default/nodes", "/api/v1/namespaces/default/persistentvolumes/x"):
            code, status = await api.call("GET", path)
            assert (code, status["message"]) == (404, "the server could not find the requested resource"), path

    with_api(tmp_path, test)


def test_a_collection_cannot_be_put_or_patched(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        for method in ("PUT", "PATCH"):
            assert (await api.call(method, CONFIGMAPS, {}, Content_Type="application/merge-patch+json"))[0] == 405

    with_api(tmp_path, test)


def test_what_is_put_or_patched_must_bear_a_name(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("one", data={"a": "1"}))
        why = "the name of the object (one based on URL) was undeterminable: name must be provided"
        code, status = await api.call("PUT", f"{CONFIGMAPS}/one", {"data": {}})
        assert (code, status["message"]) == (400, why)
        patch = {"metadata": {"name": None}}
        code, status = await api.call("PATCH", f"{CONFIGMAPS}/one", patch, Content_Type="application/merge-patch+json")
        assert (code, status["message"]) == (400, why)
        assert (await api.get(f"{CONFIGMAPS}/one"))["data"] == {"a": "1"}

    with_api(tmp_path, test)


def test_null_is_an_empty_object(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        code, status = await api.call("POST", CONFIGMAPS, b"null")
        assert (code, status["details"]["causes"][0]["field"]) == (422, "metadata.name")

    with_api(tmp_path, test)


def test_a_broken_continue_token_is_named_as_such(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        code, status = await api.call("GET", f"{CONFIGMAPS}?continue=xyz")
        assert code == 400
        assert status["message"].startswith("invalid continue token: continue key is not valid: ")
        code, status = await api.call("GET", f"{CONFIGMAPS}?continue=eyJ2IjoidjkiLCJydiI6MSwic3RhcnQiOiJhIn0")
        why = 'invalid continue token: continue key is not valid: server does not recognize this encoded version "v9"'
        assert (code, status["message"]) == (400, why)

    with_api(tmp_path, test)


def test_people_get_indented_answers_and_programs_do_not(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        for path in (CONFIGMAPS, f"{CONFIGMAPS}/absent", "/apis"):
            assert b'\n  "kind"' in (await api.raw("GET", path, User_Agent="curl/8.5.0")).body, path
            assert b'\n  "kind"' not in (await api.raw("GET", path, User_Agent="kubectl/v1.33")).body, path
            assert b'\n  "kind"' not in (await api.raw("GET", f"{path}?pretty=false", User_Agent="curl/8.5.0")).body, path

    with_api(tmp_path, test)


def test_forms_that_do_not_suit_the_answer_are_refused(tmp_path: Path) -> None:
    async def test(api: Api) -> None:
        await api.create(CONFIGMAPS, configmap("one"))
        code, status = await api.call("GET", CONFIGMAPS, Accept=PARTIAL)
        assert (code, status["message"]) == (
            406, "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)",
        )  # fmt: skip
        code, status = await api.call("GET", f"{CONFIGMAPS}/one", Accept=PARTIAL.replace("Metadata", "MetadataList"))
        assert (code, status["message"]) == (
            406, "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)",
        )  # fmt: skip
        assert (await api.call("DELETE", CONFIGMAPS, Accept=PARTIAL))[0] == 406
        await api.get(f"{CONFIGMAPS}/one")
        code, status = await api.call("GET", f"{CONFIGMAPS}?includeObject=All", Accept=TABLE)
        why = "includeObject: Invalid value: \"All\": must be 'Metadata', 'Object', 'None', or empty"
        assert (code, status["message"]) == (400, f"Unable to convert to Table as requested: {why}")

    with_api(tmp_path, test)
