"""Validation of a pod's volumes; the sources of storage systems are in volume_sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kubecosm.api.field import duplicate, forbidden_field, invalid_value, required
from kubecosm.api.resources import Object

from ..formats import Errors, check_dns1123_label, is_dns1123_subdomain
from ..meta import check_annotations, check_label_selector, check_labels
from ..values import selector_value
from .env import VOLUME_FIELD_PATHS, check_field_ref, check_resource_field_ref
from .paths import check_file_mode, check_local_path, check_local_reserved_path
from .resources import amount
from .volume_sources import SOURCES, Context, check_iscsi_name_length

MORE_THAN_ONE = "may not specify more than 1 volume type"
TEMPLATE_META_FIELDS = frozenset(("annotations", "labels"))

_ORDER = (
    "hostPath", "gitRepo", "gcePersistentDisk", "awsElasticBlockStore", "secret", "nfs", "iscsi", "glusterfs", "flocker",
    "persistentVolumeClaim", "rbd", "cinder", "cephfs", "quobyte", "downwardAPI", "fc", "flexVolume", "configMap", "azureFile",
    "vsphereVolume", "photonPersistentDisk", "portworxVolume", "azureDisk", "storageos", "projected", "scaleIO", "csi", "ephemeral",
    "image",
)  # fmt: skip
"""The order in which Kubernetes looks at the sources of a volume."""
_PATHS = {"gcePersistentDisk": "persistentDisk"}
_SURPLUS_PATHS = {"cephfs": "cephFS", "downwardAPI": "downwarAPI"}
"""Where a surplus source is reported; the misspelling is Kubernetes' own."""


def check_volumes(volumes: Sequence[Object], pod_name: str, path: str, errors: Errors) -> dict[str, Object]:
    """Judge spec.volumes; returns the good ones by name, for the mounts. `pod_name` is empty in templates."""
    good: dict[str, Object] = {}
    created = {f"{pod_name}-{v.get('name', '')}" for v in volumes if pod_name and "ephemeral" in v}
    for i, volume in enumerate(volumes):
        where, name, before = f"{path}[{i}]", volume.get("name", ""), len(errors)
        _check_source(volume, name, pod_name, where, errors)
        if not name:
            errors.append(required(f"{where}.name"))
        else:
            check_dns1123_label(name, f"{where}.name", errors)
        if name in good:
            errors.append(duplicate(f"{where}.name", name))
        if len(errors) == before:
            good[name] = volume
        claim = volume.get("persistentVolumeClaim")
        if created and claim and claim.get("claimName") in created:
            detail = "must not reference a PVC that gets created for an ephemeral volume"
            errors.append(invalid_value(f"{where}.persistentVolumeClaim.claimName", claim["claimName"], detail))
    return good


def _check_source(volume: Object, name: str, pod_name: str, path: str, errors: Errors) -> None:
    found = False
    empty_dir = volume.get("emptyDir")
    if empty_dir is not None:
        found = True
        if "sizeLimit" in empty_dir and amount(empty_dir["sizeLimit"]).nanos < 0:
            errors.append(forbidden_field(f"{path}.emptyDir.sizeLimit", "SizeLimit field must be a valid resource quantity"))
        if len(volume) <= 2:
            return
    context = Context(pod_name, name, in_pod=True)
    for kind in _ORDER:
        source = volume.get(kind)
        if source is None:
            continue
        if found:
            errors.append(forbidden_field(f"{path}.{_SURPLUS_PATHS.get(kind, kind)}", MORE_THAN_ONE))
        else:
            found = True
            CHECKS[kind](source, context, f"{path}.{_PATHS.get(kind, kind)}", errors)
        if kind == "iscsi":
            check_iscsi_name_length(source, name, path, errors)
    if not found:
        errors.append(required(path, "must specify a volume type"))


def _check_secret(source: Object, context: Context, path: str, errors: Errors) -> None:
    if not source.get("secretName"):
        errors.append(required(f"{path}.secretName"))
    _check_mode_and_items(source, path, errors)


def _check_config_map(source: Object, context: Context, path: str, errors: Errors) -> None:
    if not source.get("name"):
        errors.append(required(f"{path}.name"))
    _check_mode_and_items(source, path, errors)


def _check_mode_and_items(source: Object, path: str, errors: Errors) -> None:
    check_file_mode(source.get("defaultMode"), f"{path}.defaultMode", errors)
    for i, item in enumerate(source.get("items") or ()):
        _check_key_to_path(item, f"{path}.items[{i}]", errors)


def _check_key_to_path(item: Object, path: str, errors: Errors) -> None:
    if not item.get("key"):
        errors.append(required(f"{path}.key"))
    if not item.get("path"):
        errors.append(required(f"{path}.path"))
    check_local_reserved_path(item.get("path", ""), f"{path}.path", errors)
    check_file_mode(item.get("mode"), f"{path}.mode", errors)


def _check_downward_api(source: Object, context: Context, path: str, errors: Errors) -> None:
    check_file_mode(source.get("defaultMode"), f"{path}.defaultMode", errors)
    for item in source.get("items") or ():
        _check_downward_file(item, path, errors)


def _check_downward_file(item: Object, path: str, errors: Errors) -> None:
    if not item.get("path"):
        errors.append(required(f"{path}.path"))
    check_local_reserved_path(item.get("path", ""), f"{path}.path", errors)
    if "fieldRef" in item:
        check_field_ref(item["fieldRef"], VOLUME_FIELD_PATHS, f"{path}.fieldRef", errors)
        if "resourceFieldRef" in item:
            errors.append(invalid_value(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
    elif "resourceFieldRef" in item:
        check_resource_field_ref(item["resourceFieldRef"], f"{path}.resourceFieldRef", errors, in_volume=True)
    else:
        errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    check_file_mode(item.get("mode"), f"{path}.mode", errors)


def _check_projected(source: Object, context: Context, path: str, errors: Errors) -> None:
    check_file_mode(source.get("defaultMode"), f"{path}.defaultMode", errors)
    taken: set[str] = set()
    for i, projection in enumerate(source.get("sources") or ()):
        where = f"{path}.sources[{i}]"
        kinds = [kind for kind in _PROJECTIONS if kind in projection]
        for kind in kinds:
            _PROJECTIONS[kind](projection[kind], taken, f"{where}.{kind}", path, errors)
        if len(kinds) > 1:
            errors.append(forbidden_field(where, "may not specify more than 1 volume type per source"))


def _take(file: str, value: str, taken: set[str], volume_path: str, errors: Errors) -> None:
    if file in taken:
        errors.append(invalid_value(volume_path, value, "conflicting duplicate paths"))
    taken.add(file)


def _project_keys(source: Object, taken: set[str], path: str, volume_path: str, errors: Errors) -> None:
    name = source.get("name", "")
    if not name:
        errors.append(required(f"{path}.name"))
    for i, item in enumerate(source.get("items") or ()):
        _check_key_to_path(item, f"{path}.items[{i}]", errors)
        if item.get("path"):
            _take(item["path"], name, taken, volume_path, errors)


def _project_downward_api(source: Object, taken: set[str], path: str, volume_path: str, errors: Errors) -> None:
    for item in source.get("items") or ():
        _check_downward_file(item, path, errors)
        if item.get("path"):
            _take(item["path"], item["path"], taken, volume_path, errors)


def _project_token(source: Object, taken: set[str], path: str, volume_path: str, errors: Errors) -> None:
    seconds = source.get("expirationSeconds", 0)
    if seconds < 600:
        errors.append(invalid_value(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"))
    if seconds > 1 << 32:
        errors.append(invalid_value(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"))
    if not source.get("path"):
        errors.append(required(f"{volume_path}.path"))
    else:
        check_local_reserved_path(source["path"], f"{volume_path}.path", errors)


def _project_trust_bundle(source: Object, taken: set[str], path: str, volume_path: str, errors: Errors) -> None:
    if "name" in source and "signerName" in source:
        errors.append(invalid_value(path, source, "only one of name and signerName may be used"))
    elif "name" in source:
        if not source["name"]:
            errors.append(required(f"{path}.name", "must be a valid object name"))
        for complaint in is_dns1123_subdomain(source["name"].rpartition(":")[2]):
            errors.append(invalid_value(f"{path}.name", source["name"], f"not a valid clustertrustbundlename: {complaint}"))
        if "labelSelector" in source:
            value = selector_value(source["labelSelector"])
            errors.append(invalid_value(f"{path}.labelSelector", value, "labelSelector must be unset if name is specified"))
    elif "signerName" in source:
        if not source["signerName"]:
            errors.append(required(f"{path}.signerName", "must be a valid signer name"))
        check_label_selector(source.get("labelSelector"), f"{path}.labelSelector", errors)
    else:
        errors.append(required(path, "either name or signerName must be specified"))
    file = source.get("path", "")
    if not file:
        errors.append(required(f"{path}.path"))
    check_local_reserved_path(file, f"{path}.path", errors)
    _take(file, file, taken, volume_path, errors)


def _project_certificate(source: Object, taken: set[str], path: str, volume_path: str, errors: Errors) -> None:
    for field in ("signerName", "keyType"):
        if not source.get(field):
            errors.append(required(f"{path}.{field}"))
    for field in ("credentialBundlePath", "keyPath", "certificateChainPath"):
        if source.get(field):
            check_local_reserved_path(source[field], f"{path}.{field}", errors)
            _take(source[field], source[field], taken, volume_path, errors)


_PROJECTIONS = {
    "secret": _project_keys,
    "configMap": _project_keys,
    "downwardAPI": _project_downward_api,
    "serviceAccountToken": _project_token,
    "clusterTrustBundle": _project_trust_bundle,
    "podCertificate": _project_certificate,
}


def _check_claim(source: Object, context: Context, path: str, errors: Errors) -> None:
    if not source.get("claimName"):
        errors.append(required(f"{path}.claimName"))


def _check_git_repo(source: Object, context: Context, path: str, errors: Errors) -> None:
    if not source.get("repository"):
        errors.append(required(f"{path}.repository"))
    check_local_path(source.get("directory", ""), f"{path}.directory", errors)


def _check_ephemeral(source: Object, context: Context, path: str, errors: Errors) -> None:
    template = source.get("volumeClaimTemplate")
    if template is None:
        errors.append(required(f"{path}.volumeClaimTemplate"))
        return
    check_claim_template(template, f"{path}.volumeClaimTemplate", errors)
    if context.pod_name and context.volume_name:
        claim = f"{context.pod_name}-{context.volume_name}"
        for complaint in is_dns1123_subdomain(claim):
            where = f"{path.rpartition('.')[0]}.name"
            errors.append(invalid_value(where, context.volume_name, f'PVC name "{claim}": {complaint}'))


def check_claim_template(template: Object, path: str, errors: Errors) -> None:
    """The claim that an ephemeral volume makes: only labels and annotations of its metadata may be set."""
    from .claim_spec import check_claim_spec  # claims and pods validate each other's parts

    metadata = template.get("metadata") or {}
    check_annotations(metadata.get("annotations") or {}, f"{path}.metadata.annotations", errors)
    check_labels(metadata.get("labels") or {}, f"{path}.metadata.labels", errors)
    for field in metadata:
        if field not in TEMPLATE_META_FIELDS and metadata[field]:
            errors.append(forbidden_field(f"{path}.metadata.{field}", "cannot be set"))
    check_claim_spec(template.get("spec") or {}, f"{path}.spec", errors)


def _check_image(source: Object, context: Context, path: str, errors: Errors) -> None:
    from .containers import check_pull_policy

    if not source.get("reference") and not context.in_template:
        errors.append(required(f"{path}.reference"))
    check_pull_policy(source.get("pullPolicy", ""), f"{path}.pullPolicy", errors)


CHECKS = {
    **SOURCES,
    "secret": _check_secret,
    "configMap": _check_config_map,
    "downwardAPI": _check_downward_api,
    "projected": _check_projected,
    "persistentVolumeClaim": _check_claim,
    "gitRepo": _check_git_repo,
    "ephemeral": _check_ephemeral,
    "image": _check_image,
}


def claims_and_names(volumes: Mapping[str, Object]) -> set[str]:
    """Names of volumes that may be used as block devices."""
    return {name for name, volume in volumes.items() if "persistentVolumeClaim" in volume or "ephemeral" in volume}
