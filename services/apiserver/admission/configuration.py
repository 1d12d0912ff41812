"""`--admission-control-config-file`: an AdmissionConfiguration, which has or names the configuration of each plugin that takes one.

Imitates k8s.io/apiserver/pkg/admission/config.go.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubecosm.api.resources import Object
from kubecosm.runtime.errors import StartupError, startup

FLAG = "--admission-control-config-file"
API_VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1")
KIND = "AdmissionConfiguration"
_WEBHOOKS = {("apiserver.config.k8s.io/v1", "WebhookAdmissionConfiguration"), ("apiserver.config.k8s.io/v1alpha1", "WebhookAdmission")}
_LEVELS = ("v1", "v1beta1", "v1alpha1")
KINDS: dict[str, set[tuple[str, str]]] = {
    "MutatingAdmissionWebhook": _WEBHOOKS, "ValidatingAdmissionWebhook": _WEBHOOKS,
    "ResourceQuota": {
        ("apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration"),
        *((f"resourcequota.admission.k8s.io/{level}", "Configuration") for level in _LEVELS[1:]),
    },
    "PodSecurity": {(f"pod-security.admission.config.k8s.io/{level}", "PodSecurityConfiguration") for level in _LEVELS},
    "EventRateLimit": {("eventratelimit.admission.k8s.io/v1alpha1", "Configuration")},
    "PodTolerationRestriction": {("podtolerationrestriction.admission.k8s.io/v1alpha1", "Configuration")},
}  # fmt: skip
"""Plugin → (apiVersion, kind) of its configuration; that of others has neither."""
UNVERSIONED = {"imagePolicy": "ImagePolicyWebhook", "podNodeSelectorPluginConfig": "PodNodeSelector"}
"""The one field of a configuration without kind → its plugin. Such a file may also stand where the AdmissionConfiguration should."""


def load_configuration(path: str) -> dict[str, Object]:
    """Plugin → its configuration; files it names are found beside this one. Empty path: none. Raises StartupError."""
    if not path:
        return {}
    file = Path(path)
    document = load_document(file)
    if "kind" not in document:
        unversioned = {plugin: document for name, plugin in UNVERSIONED.items() if name in document}
        if unversioned:
            return unversioned
    if document.get("kind") != KIND or document.get("apiVersion") not in API_VERSIONS:
        raise StartupError(f"{FLAG}: {file} is no {KIND} ({' or '.join(API_VERSIONS)})")
    found: dict[str, Object] = {}
    for entry in document.get("plugins") or ():
        name = entry.get("name", "") if isinstance(entry, dict) else ""
        if not name:
            raise StartupError(f"{FLAG}: {file}: every entry of plugins needs a name")
        inline, elsewhere = entry.get("configuration"), entry.get("path")
        if name in found or not (inline or elsewhere):
            continue  # the first one counts
        found[name] = inline if isinstance(inline, dict) else load_document(file.parent / str(elsewhere))
        _check_kind(name, found[name], file)
    return found


def _check_kind(plugin: str, configuration: Object, file: Path) -> None:
    known = KINDS.get(plugin)
    given = configuration.get("apiVersion", ""), configuration.get("kind", "")
    if known and given not in known:
        wanted = " or ".join(f"{version} {kind}" for version, kind in sorted(known))
        found = " ".join(filter(None, given)) or "an object without kind"
        raise StartupError(f"{FLAG}: {file}: the configuration of {plugin} must be {wanted}, not {found}")


def load_document(path: Path) -> dict[str, Any]:
    """The one object in a YAML or JSON file. Raises StartupError."""
    import yaml  # imported here: only who has such a file pays for it

    with startup(f"read {path}"):
        text = path.read_bytes()
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StartupError(f"{path} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise StartupError(f"{path} must hold one object")
    return document
