"""Which fields a KubeSchedulerConfiguration has and of which kind, and strict decoding: unknown fields and wrong types are named.

A schema is a kind (STRING, …), `[schema]` for a list, or a mapping of field names to schemas; RAW lets anything pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kubecosm.runtime.errors import FlagError
from kubecosm.runtime.flags import parse_duration

Schema = Any

STRING, BOOL, INT32, INT64, FLOAT32, DURATION, RAW = "string", "bool", "int32", "int64", "float32", "v1.Duration", "raw"

PLUGIN = {"name": STRING, "weight": INT32}
PLUGIN_SET = {"enabled": [PLUGIN], "disabled": [PLUGIN]}
POINTS = (
    "preEnqueue", "queueSort", "preFilter", "filter", "postFilter", "preScore", "score", "reserve", "permit", "preBind", "bind", "postBind",
    "multiPoint",
)  # fmt: skip
PLUGINS = dict.fromkeys(POINTS, PLUGIN_SET)
TLS = {
    "insecure": BOOL, "serverName": STRING, "certFile": STRING, "keyFile": STRING, "caFile": STRING, "certData": STRING,
    "keyData": STRING, "caData": STRING,
}  # fmt: skip
EXTENDER = {
    "urlPrefix": STRING, "filterVerb": STRING, "preemptVerb": STRING, "prioritizeVerb": STRING, "weight": INT64, "bindVerb": STRING,
    "enableHTTPS": BOOL, "tlsConfig": TLS, "httpTimeout": DURATION, "nodeCacheCapable": BOOL,
    "managedResources": [{"name": STRING, "ignoredByScheduler": BOOL}], "ignorable": BOOL,
}  # fmt: skip
PROFILE = {
    "schedulerName": STRING, "percentageOfNodesToScore": INT32, "plugins": PLUGINS, "pluginConfig": [{"name": STRING, "args": RAW}],
}  # fmt: skip
CONFIGURATION: Mapping[str, Schema] = {
    "apiVersion": STRING, "kind": STRING, "parallelism": INT32,
    "leaderElection": {
        "leaderElect": BOOL, "leaseDuration": DURATION, "renewDeadline": DURATION, "retryPeriod": DURATION, "resourceLock": STRING,
        "resourceName": STRING, "resourceNamespace": STRING,
    },
    "clientConnection": {"kubeconfig": STRING, "acceptContentTypes": STRING, "contentType": STRING, "qps": FLOAT32, "burst": INT32},
    "enableProfiling": BOOL, "enableContentionProfiling": BOOL, "percentageOfNodesToScore": INT32, "podInitialBackoffSeconds": INT64,
    "podMaxBackoffSeconds": INT64, "profiles": [PROFILE], "extenders": [EXTENDER], "delayCacheUntilActive": BOOL,
}  # fmt: skip

RESOURCES = [{"name": STRING, "weight": INT64}]
SHAPE = [{"utilization": INT32, "score": INT32}]
PLUGIN_ARGS: Mapping[str, Mapping[str, Schema]] = {
    "DefaultPreemption": {"minCandidateNodesPercentage": INT32, "minCandidateNodesAbsolute": INT32},
    "DynamicResources": {"filterTimeout": DURATION, "bindingTimeout": DURATION},
    "InterPodAffinity": {"hardPodAffinityWeight": INT32, "ignorePreferredTermsOfExistingPods": BOOL},
    "NodeAffinity": {"addedAffinity": RAW},
    "NodeResourcesBalancedAllocation": {"resources": RESOURCES},
    "NodeResourcesFit": {
        "ignoredResources": [STRING], "ignoredResourceGroups": [STRING],
        "scoringStrategy": {"type": STRING, "resources": RESOURCES, "requestedToCapacityRatio": {"shape": SHAPE}},
    },
    "PodTopologySpread": {"defaultConstraints": [RAW], "defaultingType": STRING},
    "VolumeBinding": {"bindTimeoutSeconds": INT64, "shape": SHAPE},
}  # fmt: skip
"""Plugin → the fields of its args, besides apiVersion and kind."""


def check(value: Any, schema: Schema, path: str, kind: str) -> tuple[list[str], list[str]]:
    """(fields that do not exist, values of the wrong type) in a decoded document; `kind` is what Go calls the type at the top."""
    unknown: list[str] = []
    wrong: list[str] = []
    _walk(value, schema, path, kind, unknown, wrong)
    return unknown, wrong


def _walk(value: Any, schema: Schema, path: str, kind: str, unknown: list[str], wrong: list[str]) -> None:
    if value is None or schema is RAW:
        return
    if isinstance(schema, Mapping):
        if not isinstance(value, Mapping):
            wrong.append(_wrong(value, path, kind, "object"))
            return
        for name, inner in value.items():
            below = f"{path}.{name}" if path else str(name)
            if name not in schema:
                unknown.append(f'unknown field "{below}"')
            else:
                _walk(inner, schema[name], below, kind, unknown, wrong)
    elif isinstance(schema, Sequence) and not isinstance(schema, str):
        if not isinstance(value, list):
            wrong.append(_wrong(value, path, kind, "array"))
            return
        for index, inner in enumerate(value):
            if inner is None and schema[0] is not RAW:
                wrong.append(f"json: null at {path}[{index}] of {kind}")
            _walk(inner, schema[0], f"{path}[{index}]", kind, unknown, wrong)
    elif not _fits(value, schema):
        wrong.append(_wrong(value, path, kind, schema))


def _fits(value: Any, kind: str) -> bool:
    if kind == STRING:
        return isinstance(value, str)
    if kind == BOOL:
        return isinstance(value, bool)
    if kind == DURATION:
        return isinstance(value, str) and _is_duration(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return kind == FLOAT32 or isinstance(value, int)


def _is_duration(text: str) -> bool:
    try:
        parse_duration(text)
    except (FlagError, ValueError):
        return False
    return not text.isdigit() or text == "0"


def _wrong(value: Any, path: str, kind: str, wanted: str) -> str:
    """As Go's JSON decoder says it."""
    names = ((bool, "bool"), (str, "string"), (int | float, "number"), (list, "array"), (Mapping, "object"))
    got = next((name for types, name in names if isinstance(value, types)), "value")
    if wanted == DURATION and got == "string":
        return f'time: invalid duration "{value}"'
    return f"json: cannot unmarshal {got} into Go struct field {kind}.{path} of type {wanted}"
