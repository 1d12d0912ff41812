"""Validation of volume sources that name a storage system; shared by pods and PersistentVolumes.

Each check is `(source, context, path, errors)`. Sources of PersistentVolumes that differ have their own entry in PERSISTENT.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from kubecosm.api.field import invalid_value, not_supported, required, too_long
from kubecosm.api.resources import Object

from ..formats import Errors, check_dns1123_label, check_dns1123_subdomain, inclusive_range, is_dns1123_label, is_dns1123_subdomain
from .paths import check_no_backsteps

HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket",
)  # fmt: skip
CSI_DRIVER_NAME_MAX = 63
_ISCSI_NAMES = {
    "iqn": re.compile(r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9\-.]+)(:[^,;*&$|\s]+)$"),
    "eui": re.compile(r"^eui.[A-Za-z0-9]{16}$"),
    "naa": re.compile(r"^naa.[A-Za-z0-9]{32}$"),
}
_ISCSI_NAME_MAX = 64
_ISCSI_TOO_LONG = (
    "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified."
)


class Context(NamedTuple):
    """Whose volume it is; pod_name is empty in templates and PersistentVolumes."""

    pod_name: str
    volume_name: str
    in_pod: bool = False

    @property
    def in_template(self) -> bool:
        return not self.pod_name


Check = Callable[[Object, Context, str, Errors], None]


def _require(*fields: str) -> Check:
    """A check that the fields are set."""

    def check(source: Object, context: Context, path: str, errors: Errors) -> None:
        for field in fields:
            if not source.get(field):
                errors.append(required(f"{path}.{field}"))

    return check


def check_host_path(source: Object, context: Context, path: str, errors: Errors) -> None:
    if not source.get("path"):
        errors.append(required(f"{path}.path"))
        return
    check_no_backsteps(source["path"], f"{path}.path", errors)
    kind = source.get("type")
    if kind is not None and kind not in HOST_PATH_TYPES:
        errors.append(not_supported(f"{path}.type", kind, HOST_PATH_TYPES))


def _check_nfs(source: Object, context: Context, path: str, errors: Errors) -> None:
    _require("server", "path")(source, context, path, errors)
    if not source.get("path", "").startswith("/"):
        errors.append(invalid_value(f"{path}.path", source.get("path", ""), "must be an absolute path"))


def _check_disk(name_field: str) -> Check:
    def check(source: Object, context: Context, path: str, errors: Errors) -> None:
        if not source.get(name_field):
            errors.append(required(f"{path}.{name_field}"))
        partition = source.get("partition", 0)
        if not 0 <= partition <= 255:
            errors.append(invalid_value(f"{path}.partition", partition, inclusive_range(1, 255)))

    return check


def _check_iscsi_name(name: str, path: str, first: str, errors: Errors) -> None:
    pattern = _ISCSI_NAMES.get(name[:3])
    if pattern is None:
        errors.append(invalid_value(path, name, first))
    elif not pattern.search(name):
        errors.append(invalid_value(path, name, "must be valid format"))


def _check_iscsi(source: Object, context: Context, path: str, errors: Errors) -> None:
    starting = "must be valid format starting with iqn, eui, or naa" if context.in_pod else "must be valid format"
    if not source.get("targetPortal"):
        errors.append(required(f"{path}.targetPortal"))
    if not context.in_pod and "initiatorName" in source:
        portal = source.get("targetPortal", "")
        if len(f"{context.volume_name}:{portal}") > _ISCSI_NAME_MAX:
            errors.append(invalid_value(f"{path}.targetportal", portal, _ISCSI_TOO_LONG))
    if not source.get("iqn"):
        errors.append(required(f"{path}.iqn"))
    else:
        _check_iscsi_name(source["iqn"], f"{path}.iqn", starting, errors)
    lun = source.get("lun", 0)
    if not 0 <= lun <= 255:
        errors.append(invalid_value(f"{path}.lun", lun, inclusive_range(0, 255)))
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and "secretRef" not in source:
        errors.append(required(f"{path}.secretRef"))
    if not context.in_pod and "secretRef" in source and not source["secretRef"].get("name"):
        errors.append(required(f"{path}.secretRef.name"))
    if "initiatorName" in source:
        _check_iscsi_name(source["initiatorName"], f"{path}.initiatorname", starting, errors)


def check_iscsi_name_length(source: Object, volume_name: str, path: str, errors: Errors) -> None:
    """A pod's iSCSI volume with an initiator name must have a short name."""
    if "initiatorName" in source and len(f"{volume_name}:{source.get('targetPortal', '')}") > _ISCSI_NAME_MAX:
        errors.append(invalid_value(f"{path}.name", volume_name, _ISCSI_TOO_LONG))


def _check_glusterfs(source: Object, context: Context, path: str, errors: Errors) -> None:
    _require("endpoints", "path")(source, context, path, errors)
    namespace = source.get("endpointsNamespace")
    if namespace == "" and not context.in_pod:
        detail = "if the endpointnamespace is set, it must be a valid namespace name"
        errors.append(invalid_value(f"{path}.endpointsNamespace", namespace, detail))
    elif namespace and not context.in_pod:
        for complaint in is_dns1123_label(namespace):
            errors.append(invalid_value(f"{path}.endpointsNamespace", namespace, complaint))


def _check_flocker(source: Object, context: Context, path: str, errors: Errors) -> None:
    name, uid = source.get("datasetName"), source.get("datasetUUID")
    if not name and not uid:
        errors.append(required(path, "one of datasetName and datasetUUID is required"))
    if name and uid:
        errors.append(invalid_value(path, "resource", "datasetName and datasetUUID can not be specified simultaneously"))
    if name and "/" in name:
        errors.append(invalid_value(f"{path}.datasetName", name, "must not contain '/'"))


def _check_secret_ref(source: Object, path: str, errors: Errors, *, namespaced: bool) -> None:
    reference = source.get("secretRef")
    if reference is None:
        return
    for field in ("name", "namespace") if namespaced else ("name",):
        if not reference.get(field):
            errors.append(required(f"{path}.secretRef.{field}"))


def _check_cinder(source: Object, context: Context, path: str, errors: Errors) -> None:
    _require("volumeID")(source, context, path, errors)
    _check_secret_ref(source, path, errors, namespaced=not context.in_pod)


def _check_quobyte(source: Object, context: Context, path: str, errors: Errors) -> None:
    complaint = "must be a host:port pair or multiple pairs separated by commas"
    registry = source.get("registry")
    if not registry:
        errors.append(required(f"{path}.registry", complaint))
    elif len(source.get("tenant", "")) >= 65:
        errors.append(required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters"))
    else:
        for pair in registry.split(","):
            if pair.count(":") != 1:
                errors.append(invalid_value(f"{path}.registry", registry, complaint))
    if not source.get("volume"):
        errors.append(required(f"{path}.volume"))


def _check_fc(source: Object, context: Context, path: str, errors: Errors) -> None:
    names, ids = source.get("targetWWNs"), source.get("wwids")
    if not names and not ids:
        errors.append(required(f"{path}.targetWWNs", "must specify either targetWWNs or wwids, but not both"))
    if names and ids:
        errors.append(invalid_value(f"{path}.targetWWNs", names, "targetWWNs and wwids can not be specified simultaneously"))
    if names:
        lun = source.get("lun")
        if lun is None:
            errors.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
        elif not 0 <= lun <= 255:
            errors.append(invalid_value(f"{path}.lun", lun, inclusive_range(0, 255)))


def _check_flex(source: Object, context: Context, path: str, errors: Errors) -> None:
    _require("driver")(source, context, path, errors)
    for key in source.get("options") or {}:
        owner = "." + key.partition("/")[0].lower() if "/" in key else "." + key.lower()
        if owner.endswith((".kubernetes.io", ".k8s.io")):
            errors.append(invalid_value(f"{path}.options[{key}]", key, "kubernetes.io and k8s.io namespaces are reserved"))


def _check_azure_file(source: Object, context: Context, path: str, errors: Errors) -> None:
    _require("secretName", "shareName")(source, context, path, errors)
    if not context.in_pod and source.get("secretNamespace") == "":
        errors.append(required(f"{path}.secretNamespace"))


_AZURE_CACHING = ("None", "ReadOnly", "ReadWrite")
_AZURE_KINDS = ("Dedicated", "Managed", "Shared")
_AZURE_MANAGED = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
_AZURE_BLOB = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"


def _check_azure_disk(source: Object, context: Context, path: str, errors: Errors) -> None:
    _require("diskName", "diskURI")(source, context, path, errors)
    caching, kind, uri = source.get("cachingMode"), source.get("kind"), source.get("diskURI", "")
    if caching is not None and caching not in _AZURE_CACHING:
        errors.append(not_supported(f"{path}.cachingMode", caching, _AZURE_CACHING))
    if kind is not None and kind not in _AZURE_KINDS:
        errors.append(not_supported(f"{path}.kind", kind, _AZURE_KINDS))
    if kind == "Managed" and not uri.startswith("/subscriptions/"):
        errors.append(not_supported(f"{path}.diskURI", uri, (_AZURE_MANAGED,)))
    if kind is not None and kind != "Managed" and not uri.startswith("https://"):
        errors.append(not_supported(f"{path}.diskURI", uri, (_AZURE_BLOB,)))


def _check_storageos(source: Object, context: Context, path: str, errors: Errors) -> None:
    if not source.get("volumeName"):
        errors.append(required(f"{path}.volumeName"))
    else:
        check_dns1123_label(source["volumeName"], f"{path}.volumeName", errors)
    if source.get("volumeNamespace"):
        check_dns1123_label(source["volumeNamespace"], f"{path}.volumeNamespace", errors)
    _check_secret_ref(source, path, errors, namespaced=not context.in_pod)


def check_csi_driver_name(name: str, path: str, errors: Errors) -> None:
    if not name:
        errors.append(required(path))
        return
    if len(name) > CSI_DRIVER_NAME_MAX:
        errors.append(too_long(path, CSI_DRIVER_NAME_MAX))
    for complaint in is_dns1123_subdomain(name.lower()):
        errors.append(invalid_value(path, name, complaint))


def _check_csi(source: Object, context: Context, path: str, errors: Errors) -> None:
    check_csi_driver_name(source.get("driver", ""), f"{path}.driver", errors)
    reference = source.get("nodePublishSecretRef")
    if reference is not None:
        name = reference.get("name")
        if not name:
            errors.append(required(f"{path}.nodePublishSecretRef.name"))
        else:
            check_dns1123_subdomain(name, f"{path}.name", errors)


_CSI_SECRETS = ("controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef")


def _check_persistent_csi(source: Object, context: Context, path: str, errors: Errors) -> None:
    check_csi_driver_name(source.get("driver", ""), f"{path}.driver", errors)
    if not source.get("volumeHandle"):
        errors.append(required(f"{path}.volumeHandle"))
    for field in _CSI_SECRETS:
        reference = source.get(field)
        if reference is None:
            continue
        for part, check in (("name", check_dns1123_subdomain), ("namespace", check_dns1123_label)):
            if not reference.get(part):
                errors.append(required(f"{path}.{field}.{part}"))
            else:
                check(reference[part], f"{path}.{field}.{part}", errors)


def _check_local(source: Object, context: Context, path: str, errors: Errors) -> None:
    if not source.get("path"):
        errors.append(required(f"{path}.path"))
    else:
        check_no_backsteps(source["path"], f"{path}.path", errors)


SOURCES: dict[str, Check] = {
    "hostPath": check_host_path,
    "gcePersistentDisk": _check_disk("pdName"),
    "awsElasticBlockStore": _check_disk("volumeID"),
    "nfs": _check_nfs,
    "iscsi": _check_iscsi,
    "glusterfs": _check_glusterfs,
    "flocker": _check_flocker,
    "rbd": _require("monitors", "image"),
    "cinder": _check_cinder,
    "cephfs": _require("monitors"),
    "quobyte": _check_quobyte,
    "fc": _check_fc,
    "flexVolume": _check_flex,
    "azureFile": _check_azure_file,
    "vsphereVolume": _require("volumePath"),
    "photonPersistentDisk": _require("pdID"),
    "portworxVolume": _require("volumeID"),
    "azureDisk": _check_azure_disk,
    "storageos": _check_storageos,
    "scaleIO": _require("gateway", "system", "volumeName"),
    "csi": _check_csi,
}
"""Sources that pods may use."""

PERSISTENT: dict[str, Check] = {**SOURCES, "csi": _check_persistent_csi, "local": _check_local}
"""Sources that PersistentVolumes may use."""


