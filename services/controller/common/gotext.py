"""Pod templates as Go prints them, and the hash over that text which names ReplicaSets and the revisions of DaemonSets.

Imitates ComputeHash of pkg/controller/controller_utils.go, which prints the whole struct with spew (`%#v`) and takes FNV-1a of it: types,
fields that are not set, and the insides of quantities and times are all in it. So a new field of any release changes every hash; the values
here are those of the release whose schemas we have. A pod template has passed through protobuf by then: empty lists and maps are nil.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from kubecosm.api.hashing import fnv32a, safe_encode
from kubecosm.api.resources import Object

if TYPE_CHECKING:
    from kubecosm.api.schema.model import Field, Type

NIL = "<nil>"
GO_NAMES = {
    "metadata": "ObjectMeta", "uid": "UID", "apiVersion": "APIVersion", "apiGroup": "APIGroup", "dnsPolicy": "DNSPolicy",
    "dnsConfig": "DNSConfig", "serviceAccount": "DeprecatedServiceAccount", "os": "OS", "seLinuxOptions": "SELinuxOptions",
    "seLinuxChangePolicy": "SELinuxChangePolicy", "fsGroup": "FSGroup", "fsGroupChangePolicy": "FSGroupChangePolicy",
    "gmsaCredentialSpecName": "GMSACredentialSpecName", "gmsaCredentialSpec": "GMSACredentialSpec", "tty": "TTY", "httpGet": "HTTPGet",
    "tcpSocket": "TCPSocket", "grpc": "GRPC", "httpHeaders": "HTTPHeaders", "ip": "IP", "gcePersistentDisk": "GCEPersistentDisk",
    "awsElasticBlockStore": "AWSElasticBlockStore", "nfs": "NFS", "iscsi": "ISCSI", "rbd": "RBD", "cephfs": "CephFS", "fc": "FC",
    "storageos": "StorageOS", "csi": "CSI", "pdName": "PDName", "fsType": "FSType", "iqn": "IQN", "iscsiInterface": "ISCSIInterface",
    "chapAuthDiscovery": "DiscoveryCHAPAuth", "chapAuthSession": "SessionCHAPAuth", "endpoints": "EndpointsName", "wwids": "WWIDs",
    "diskURI": "DataDiskURI", "sslEnabled": "SSLEnabled",
}  # fmt: skip
"""Go's names of fields that are not the JSON name with a great first letter."""
GO_NAMES_OF_STRUCTS = {
    "core.v1.RBDVolumeSource": {"monitors": "CephMonitors", "image": "RBDImage", "pool": "RBDPool", "user": "RadosUser"},
}
_SPECIAL_TYPES = {"quantity": "resource.Quantity", "intorstring": "intstr.IntOrString", "time": "v1.Time"}
_ZERO_TIME = "{Time:(time.Time){wall:(uint64)0 ext:(int64)0 loc:(*time.Location)<nil>}}"
_QUANTITY = re.compile(r"([+-]?)0*(\d*)(?:\.(\d*))?(.*)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def template_hash(template: Object, collision_count: int | None = None) -> str:
    """The pod-template-hash: up to ten safe characters; the collision count changes it."""
    number = fnv32a(template_text(template).encode())
    if collision_count is not None:
        number = fnv32a(collision_count.to_bytes(8, "little"), number)
    return safe_encode(str(number))


def template_text(template: Object) -> str:
    """A PodTemplateSpec in wire form, as Go prints it."""
    return f"(v1.PodTemplateSpec){_struct('core.v1.PodTemplateSpec', template)}"


def _typed(kind: Type, value: Any) -> str:
    """A value with its type before it; None where it is not set."""
    name = f"({'*' if kind.pointer else ''}{_SPECIAL_TYPES.get(kind.go, kind.go)})"
    return f"{name}{NIL if kind.pointer and value is None else _plain(kind, value)}"


def _plain(kind: Type, value: Any) -> str:
    """A value alone."""
    if kind.kind == "struct":
        return _struct(kind.ref, value or {})
    if kind.elem is not None:
        if not value:
            return NIL
        if kind.kind == "list":
            return f"[{' '.join([_plain(kind.elem, item) for item in value])}]"
        return f"map[{' '.join([f'{key}:{_plain(kind.elem, value[key])}' for key in sorted(value)])}]"
    return _SCALARS[kind.kind](value)


def _struct(definition: str, value: Object) -> str:
    return f"{{{' '.join([print_field(value) for print_field in _fields(definition)])}}}"


@cache
def _fields(definition: str) -> tuple[Callable[[Object], str], ...]:
    """How to print each field of a struct from an object in wire form; the fields of an embedded struct stand in braces of their own."""
    from kubecosm.api.schema.model import schemas  # a cluster without Deployments and DaemonSets needs none of it

    fields = schemas().definition(definition).fields.values()
    printers: list[Callable[[Object], str]] = []
    for embedded, members in groupby(fields, key=lambda field: field.embedded):
        inner = [_printer(definition, field) for field in members]
        printers += [_embedded(embedded[0], inner)] if embedded else inner
    return tuple(printers)


def _printer(definition: str, field: Field) -> Callable[[Object], str]:
    wire, kind = field.name, field.type
    name = GO_NAMES_OF_STRUCTS.get(definition, {}).get(wire) or GO_NAMES.get(wire) or wire[0].upper() + wire[1:]
    return lambda value: f"{name}:{_typed(kind, value.get(wire))}"


def _embedded(name: str, inner: list[Callable[[Object], str]]) -> Callable[[Object], str]:
    return lambda value: f"{name}:(v1.{name}){{{' '.join([print_field(value) for print_field in inner])}}}"


def _quantity(value: str | int | float | None) -> str:
    """A quantity as it comes out of parsing its canonical text, which it keeps where it can tell cheaply that it is canonical."""
    text = "0" if value is None else str(value)
    if text == "0":
        return _amount(0, 0, "0", "")
    match = _QUANTITY.fullmatch(text)
    assert match is not None, text
    sign, whole, fraction, suffix = match[1], match[2] or "0", match[3] or "", match[4]
    digits = f"{whole}{fraction}"
    number = int(f"{sign}{digits}")
    if suffix in _BINARY:
        bits = _BINARY[suffix]
        if fraction or len(whole) + bits * 3 // 10 > 14:
            return _great_amount(number << bits, len(fraction), "BinarySI")
        return _amount(number << bits, 0, text if number & 7 else "", "BinarySI")
    exponential = suffix not in _DECIMAL
    form = "DecimalExponent" if exponential else "DecimalSI"
    scale = (int(suffix[1:]) if exponential else _DECIMAL[suffix]) - len(fraction)
    if len(digits) > 18 or scale < -9:
        return _great_amount(number, -scale, form)
    is_canonical = scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"
    return _amount(number, scale, text if is_canonical else "", form)


def _amount(value: int, scale: int, text: str, form: str) -> str:
    return (
        f"{{i:(resource.int64Amount){{value:(int64){value} scale:(resource.Scale){scale}}} "
        f"d:(resource.infDecAmount){{Dec:(*inf.Dec)<nil>}} s:(string){text} Format:(resource.Format){form}}}"
    )


def _great_amount(unscaled: int, scale: int, form: str) -> str:
    """What is too great, or too fine, for 18 digits: a decimal of any length, rounded up to nanos where 64 bits do not hold it."""
    if not -(2**63) <= unscaled < 2**63:
        ten = 10 ** abs(9 - scale)
        unscaled, scale = unscaled * ten if scale < 9 else -(-unscaled // ten), 9
    if form == "BinarySI" and unscaled > (2**63 - 1) * 10**scale:
        unscaled, scale = 2**63 - 1, 0
    words = [str(abs(unscaled) >> bit & 2**64 - 1) for bit in range(0, abs(unscaled).bit_length(), 64)]
    number = f"unscaled:(big.Int){{neg:(bool){str(unscaled < 0).lower()} abs:(big.nat)[{' '.join(words)}]}} scale:(inf.Scale){scale}"
    return (
        "{i:(resource.int64Amount){value:(int64)0 scale:(resource.Scale)0} "
        f"d:(resource.infDecAmount){{Dec:(*inf.Dec){{{number}}}}} s:(string) Format:(resource.Format){form}}}"
    )


def _int_or_string(value: int | str | None) -> str:
    if isinstance(value, str):
        return f"{{Type:(intstr.Type)1 IntVal:(int32)0 StrVal:(string){value}}}"
    return f"{{Type:(intstr.Type)0 IntVal:(int32){value or 0} StrVal:(string)}}"


_SCALARS: dict[str, Callable[[Any], str]] = {
    "string": lambda value: value or "",
    "bool": lambda value: "true" if value else "false",
    "int32": lambda value: str(value or 0),
    "int64": lambda value: str(value or 0),
    "quantity": _quantity,
    "intorstring": _int_or_string,
    "time": lambda _: _ZERO_TIME,  # no template has a time that is set
    "fieldsv1": lambda _: NIL,  # … nor managed fields
}
