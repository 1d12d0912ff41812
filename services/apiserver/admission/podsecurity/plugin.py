"""The plugin: pods are refused, audited and warned about, templates of pods warned about, and changed labels checked against what runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from kubecosm.api.field import FieldError, go_quote, invalid
from kubecosm.api.meta import annotations_of
from kubecosm.api.names import POD_SECURITY_PREFIX
from kubecosm.api.resources import (
    CRONJOBS,
    DAEMONSETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PODS,
    REPLICASETS,
    REPLICATIONCONTROLLERS,
    STATEFULSETS,
    Object,
    Resource,
    builtin,
)

from ...cache.resource import ResourceCache
from ...cache.selection import Selection
from ...registry.core.security import SECCOMP_CONTAINER_ANNOTATION, SECCOMP_POD_ANNOTATION
from ..chain import CREATE, UPDATE, Attributes, Plugin
from ..refusal import refuse
from .checks import Finding, evaluate
from .configuration import Configuration, parse_configuration
from .metrics import PodSecurityMetrics
from .policy import PRIVILEGED, Policy, Standard, policy_of

if TYPE_CHECKING:
    from ..plugins import Parts

PODS_CHECKED_MAX = 3000
"""Pods looked at when the labels of a namespace change."""
POLICIES_MAX = 4096
"""Sets of labels whose policies are remembered."""
IGNORED_SUBRESOURCES = frozenset(("exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"))
PODTEMPLATES = builtin("", "v1", "podtemplates")
TEMPLATES: dict[Resource, tuple[str, ...]] = {
    PODTEMPLATES: ("template",),
    CRONJOBS: ("spec", "jobTemplate", "spec", "template"),
    **dict.fromkeys((REPLICATIONCONTROLLERS, REPLICASETS, DEPLOYMENTS, STATEFULSETS, DAEMONSETS, JOBS), ("spec", "template")),
}
"""Where kinds have the template of their pods."""
_LABELLED = POD_SECURITY_PREFIX.encode()
_ENFORCED = f"{POD_SECURITY_PREFIX}enforce-policy"

Labels = tuple[tuple[str, str], ...]


class PodSecurity(Plugin):
    name = "PodSecurity"

    def __init__(
        self, namespaces: ResourceCache, pods: ResourceCache, configuration: Configuration, metrics: PodSecurityMetrics
    ) -> None:  # fmt: skip
        self._namespaces = namespaces
        self._pods = pods
        self._configuration = configuration
        self._metrics = metrics
        defaults = configuration.defaults
        free = defaults.is_privileged and not configuration.namespaces and not configuration.usernames
        self._open = str(defaults.enforce) if free else None
        """What is noted of pods where nothing is asked for and nobody is exempt: most clusters, most namespaces."""
        self._parse = lru_cache(POLICIES_MAX)(lambda labels: policy_of(dict(labels), configuration.defaults))

    def handles(self, resource: Resource, subresource: str) -> bool:
        if resource == PODS:
            return subresource not in IGNORED_SUBRESOURCES
        return (resource == NAMESPACES or resource in TEMPLATES) and not subresource

    def validate(self, attributes: Attributes) -> Awaitable[None] | None:
        """Raises Forbidden, Invalid."""
        if attributes.obj is None or attributes.operation not in (CREATE, UPDATE):
            return None
        if attributes.resource == NAMESPACES:
            self._check_namespace(attributes, attributes.obj)
            return None
        if self._open is not None and not self._is_labelled(attributes.namespace):
            if attributes.resource == PODS:
                attributes.annotate(_ENFORCED, self._open)
                self._count("allow", self._configuration.defaults.enforce, "enforce", attributes)
            return None
        policy, errors = self._policy(attributes.namespace)
        if attributes.resource == PODS:
            self._check_pod(attributes, attributes.obj, policy, errors)
        elif errors or not policy.warn.level == policy.audit.level == PRIVILEGED:
            self._check_template(attributes, attributes.obj, policy, errors)
        return None

    def _is_labelled(self, namespace: str) -> bool:
        entry = self._namespaces.get(namespace)
        return entry is not None and _LABELLED in entry.data

    def _policy(self, namespace: str) -> tuple[Policy, list[FieldError]]:
        entry = self._namespaces.get(namespace)
        if entry is None or _LABELLED not in entry.data:
            return self._configuration.defaults, []
        return self._policy_of(entry.decode())

    def _policy_of(self, namespace: Object) -> tuple[Policy, list[FieldError]]:
        labels = namespace["metadata"].get("labels") or {}
        return self._parse(tuple((key, value) for key, value in labels.items() if key.startswith(POD_SECURITY_PREFIX)))

    # ---- pods and their templates

    def _check_pod(self, attributes: Attributes, pod: Object, policy: Policy, errors: Sequence[FieldError]) -> None:
        if self._is_exempt(attributes):
            return
        if policy.is_privileged and not errors:
            _annotate(attributes, "enforce-policy", str(policy.enforce))
            self._count("allow", policy.enforce, "enforce", attributes)
            return
        if attributes.operation == UPDATE and not is_significant(pod, attributes.old or {}):
            return
        self._evaluate(attributes, pod, policy, errors, enforce=True)

    def _check_template(self, attributes: Attributes, obj: Object, policy: Policy, errors: Sequence[FieldError]) -> None:
        if self._is_exempt(attributes):
            return
        template = obj
        for field in TEMPLATES[attributes.resource]:
            template = template.get(field) or {}
        if template.get("spec"):
            self._evaluate(attributes, template, policy, errors, enforce=False)

    def _is_exempt(self, attributes: Attributes) -> bool:
        configuration = self._configuration
        dimension = "namespace" if attributes.namespace in configuration.namespaces else ""
        if attributes.user.name in configuration.usernames:
            dimension = dimension or "user"
        if dimension:
            self._exempt(attributes, dimension)
        return bool(dimension)

    def _exempt(self, attributes: Attributes, dimension: str) -> None:
        _annotate(attributes, "exempt", dimension)
        self._metrics.exemptions[_request(attributes)] += 1

    def _count(self, decision: str, standard: Standard, mode: str, attributes: Attributes) -> None:
        self._metrics.evaluations[decision, standard, mode, _request(attributes)] += 1

    def _evaluate(self, attributes: Attributes, pod: Object, policy: Policy, errors: Sequence[FieldError], *, enforce: bool) -> None:
        """EvaluatePod."""
        if pod["spec"].get("runtimeClassName") in self._configuration.runtime_classes:
            return self._exempt(attributes, "runtimeClass")
        if errors:
            self._metrics.errors[_request(attributes)] += 1
            _annotate(attributes, "error", f"Failed to parse policy: {'; '.join(str(error) for error in errors)}")
        found: dict[Standard, list[Finding]] = {}

        def violations(standard: Standard) -> str:
            if standard not in found:
                found[standard] = evaluate(standard, pod.get("metadata") or {}, pod["spec"])
            listed = ", ".join(str(finding) for finding in found[standard])
            return f"violate PodSecurity {go_quote(str(standard))}: {listed}" if listed else ""

        refused = violations(policy.enforce) if enforce else ""
        if enforce:
            _annotate(attributes, "enforce-policy", str(policy.enforce))
            self._count("deny" if refused else "allow", policy.enforce, "enforce", attributes)
        if would := violations(policy.audit):
            _annotate(attributes, "audit-violations", f"would {would}")
            self._count("deny", policy.audit, "audit", attributes)
        if refused:
            raise refuse(attributes, refused.replace("violate", "violates", 1))
        if would := violations(policy.warn):
            attributes.warn(f"would {would}")
            self._count("deny", policy.warn, "warn", attributes)
        return None

    # ---- namespaces

    def _check_namespace(self, attributes: Attributes, namespace: Object) -> None:
        """ValidateNamespace: labels must be understood, and what runs already may be told of."""
        policy, errors = self._policy_of(namespace)
        before, errors_before = self._policy_of(attributes.old) if attributes.old is not None else (None, [])
        if errors and [str(e) for e in errors] != [str(e) for e in errors_before]:
            raise invalid(NAMESPACES, namespace["metadata"].get("name", ""), errors)
        name = namespace["metadata"].get("name", "")
        if name in self._configuration.namespaces:
            if policy not in (before, self._configuration.defaults) and not policy.is_privileged:
                ignored = f"the policy ({policy.compact()}) will be ignored"
                attributes.warn(f"namespace {go_quote(name)} is exempt from Pod Security, and {ignored}")
            return
        if before is None or policy.enforce == before.enforce or policy.enforce.level == PRIVILEGED:
            return
        if not policy.enforce.is_relaxed_from(before.enforce):
            attributes.warn(*self._violations_in(name, policy.enforce))

    def _violations_in(self, namespace: str, standard: Standard) -> list[str]:
        """What to warn of when a standard comes to be enforced where pods run (EvaluatePodsInNamespace)."""
        entries = self._pods.page(Selection(namespace)).entries
        violating: dict[str, list[str]] = defaultdict(list)
        for entry in entries[:PODS_CHECKED_MAX]:
            pod = entry.decode()
            if pod["spec"].get("runtimeClassName") in self._configuration.runtime_classes:
                continue
            reasons = ", ".join(finding.reason for finding in evaluate(standard, pod["metadata"], pod["spec"]))
            if reasons:
                violating[reasons].append(entry.name)
        warnings = []
        if len(entries) > PODS_CHECKED_MAX:
            checked = f"the first {PODS_CHECKED_MAX} of {len(entries)} existing pods"
            warnings.append(f"new PodSecurity enforce level only checked against {checked}")
        if violating:
            told = go_quote(str(standard))
            warnings.append(f"existing pods in namespace {go_quote(namespace)} violate the new PodSecurity enforce level {told}")
        return warnings + sorted(f"{_some(names)}: {reasons}" for reasons, names in violating.items())


def _some(names: list[str]) -> str:
    others = len(names) - 1
    if not others:
        return names[0]
    return f"{min(names)} (and {others} other pod{'s' if others > 1 else ''})"


def _request(attributes: Attributes) -> tuple[str, str, str]:
    return attributes.operation, attributes.resource.plural, attributes.subresource


def _annotate(attributes: Attributes, key: str, value: str) -> None:
    attributes.annotate(f"{POD_SECURITY_PREFIX}{key}", value)


def is_significant(pod: Object, old: Object) -> bool:
    """Whether an update changes anything that the standards look at; most of a pod cannot change (isSignificantPodUpdate)."""
    annotations, before = annotations_of(pod), annotations_of(old)
    if annotations.get(SECCOMP_POD_ANNOTATION) != before.get(SECCOMP_POD_ANNOTATION):
        return True
    for field in ("containers", "initContainers", "ephemeralContainers"):
        now, then = (obj["spec"].get(field) or [] for obj in (pod, old))
        if len(now) != len(then):
            return True
        images = {container["name"]: container.get("image") for container in then}
        for container in now:
            key = f"{SECCOMP_CONTAINER_ANNOTATION}{container['name']}"
            if images.get(container["name"]) != container.get("image") or annotations.get(key) != before.get(key):
                return True
    return False


def build(parts: Parts) -> PodSecurity:
    """Raises StartupError."""
    configuration = parse_configuration(parts.configuration.get(PodSecurity.name) or {})
    metrics = PodSecurityMetrics()
    parts.metrics.of_plugins.append(metrics)
    return PodSecurity(parts.cache(NAMESPACES), parts.cache(PODS), configuration, metrics)
