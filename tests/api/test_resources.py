"""Rows of the resource table: what makes two of them one resource."""

from __future__ import annotations

from dataclasses import replace

from kubecosm.api.resources import BUILTIN, DEPLOYMENTS, PODS, CustomResource, Resource, load_builtin


def test_rows_are_one_resource_whatever_they_offer() -> None:
    fewer = replace(PODS, verbs=("get",), subresources=())
    assert fewer == PODS
    assert hash(fewer) == hash(PODS)
    assert {PODS: "found"}[fewer] == "found"
    assert replace(PODS, version="v2") != PODS
    assert DEPLOYMENTS != PODS


def test_a_custom_row_is_never_a_built_in_one() -> None:
    identity = ("example.com", "v1", "Widget", "widgets", "widget", True)
    custom, builtin = CustomResource(*identity), Resource(*identity)
    assert custom != builtin
    assert custom == CustomResource(*identity, schema={"type": "object"})


def test_tables_are_fresh_and_rows_are_not() -> None:
    table = load_builtin()
    table.remove(PODS)
    assert BUILTIN.by_path("", "v1", "pods") is PODS
    assert table.by_path("", "v1", "pods") is None
    assert table.by_path("apps", "v1", "deployments") is DEPLOYMENTS
