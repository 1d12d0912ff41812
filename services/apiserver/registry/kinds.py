"""Which strategy answers for which resource: one table. A kind's module is imported when its strategy is first asked for."""

from __future__ import annotations

from importlib import import_module

from kubecosm.api.resources import BUILTIN, Resource

from .strategy import Factory, Strategy, register, strategy_for

__all__ = ["STRATEGIES", "register_all", "strategy_for"]

STRATEGIES: dict[tuple[str, str], str] = {
    ("", "configmaps"): "core.configmap:ConfigMapStrategy",
    ("", "endpoints"): "core.endpoints:EndpointsStrategy",
    ("", "events"): "core.event:EventStrategy",
    ("", "limitranges"): "core.limitrange:LimitRangeStrategy",
    ("", "namespaces"): "core.namespace:NamespaceStrategy",
    ("", "namespaces/finalize"): "core.namespace:NamespaceFinalizeStrategy",
    ("", "namespaces/status"): "core.namespace:NamespaceStatusStrategy",
    ("", "nodes"): "core.node:NodeStrategy",
    ("", "nodes/status"): "core.node:NodeStatusStrategy",
    ("", "persistentvolumeclaims"): "core.claim:ClaimStrategy",
    ("", "persistentvolumeclaims/status"): "core.claim:ClaimStatusStrategy",
    ("", "persistentvolumes"): "core.persistentvolume:PersistentVolumeStrategy",
    ("", "persistentvolumes/status"): "core.persistentvolume:PersistentVolumeStatusStrategy",
    ("", "pods"): "core.pod:PodStrategy",
    ("", "pods/ephemeralcontainers"): "core.pod:PodEphemeralContainersStrategy",
    ("", "pods/resize"): "core.pod:PodResizeStrategy",
    ("", "pods/status"): "core.pod:PodStatusStrategy",
    ("", "podtemplates"): "core.podtemplate:PodTemplateStrategy",
    ("", "replicationcontrollers"): "core.replicationcontroller:ReplicationControllerStrategy",
    ("", "replicationcontrollers/status"): "templated:ReplicatedStatusStrategy",
    ("", "resourcequotas"): "core.resourcequota:ResourceQuotaStrategy",
    ("", "resourcequotas/status"): "core.resourcequota:ResourceQuotaStatusStrategy",
    ("", "secrets"): "core.secret:SecretStrategy",
    ("", "serviceaccounts"): "core.serviceaccount:ServiceAccountStrategy",
    ("", "services"): "core.service:ServiceStrategy",
    ("", "services/status"): "core.service:ServiceStatusStrategy",
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"): "admissionregistration.policies:MutatingAdmissionPolicyStrategy",
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"): (
        "admissionregistration.policies:BindingStrategy"
    ),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): "admissionregistration.webhooks:MutatingWebhookStrategy",
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): "admissionregistration.policies:ValidatingAdmissionPolicyStrategy",
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"): (
        "admissionregistration.policies:ValidatingAdmissionPolicyBindingStrategy"
    ),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): "admissionregistration.webhooks:ValidatingWebhookStrategy",
    ("apiextensions.k8s.io", "customresourcedefinitions"): "apiextensions.crd:CustomResourceDefinitionStrategy",
    ("apiregistration.k8s.io", "apiservices"): "apiregistration.apiservice:APIServiceStrategy",
    ("apps", "controllerrevisions"): "apps.controllerrevision:ControllerRevisionStrategy",
    ("apps", "daemonsets"): "apps.daemonset:DaemonSetStrategy",
    ("apps", "daemonsets/status"): "apps.daemonset:DaemonSetStatusStrategy",
    ("apps", "deployments"): "apps.deployment:DeploymentStrategy",
    ("apps", "deployments/status"): "apps.deployment:DeploymentStatusStrategy",
    ("apps", "replicasets"): "apps.replicaset:ReplicaSetStrategy",
    ("apps", "replicasets/status"): "templated:ReplicatedStatusStrategy",
    ("apps", "statefulsets"): "apps.statefulset:StatefulSetStrategy",
    ("apps", "statefulsets/status"): "apps.statefulset:StatefulSetStatusStrategy",
    ("autoscaling", "horizontalpodautoscalers"): "autoscaling.hpa:HorizontalPodAutoscalerStrategy",
    ("batch", "cronjobs"): "batch.cronjob:CronJobStrategy",
    ("batch", "jobs"): "batch.job:JobStrategy",
    ("batch", "jobs/status"): "batch.job:JobStatusStrategy",
    ("certificates.k8s.io", "certificatesigningrequests"): "certificates.signing_request:SigningRequestStrategy",
    ("certificates.k8s.io", "certificatesigningrequests/approval"): "certificates.signing_request:SigningRequestApprovalStrategy",
    ("certificates.k8s.io", "certificatesigningrequests/status"): "certificates.signing_request:SigningRequestStatusStrategy",
    ("coordination.k8s.io", "leasecandidates"): "coordination.lease:LeaseCandidateStrategy",
    ("coordination.k8s.io", "leases"): "coordination.lease:LeaseStrategy",
    ("discovery.k8s.io", "endpointslices"): "discovery.endpointslice:EndpointSliceStrategy",
    ("events.k8s.io", "events"): "core.event:EventStrategy",
    ("flowcontrol.apiserver.k8s.io", "flowschemas"): "flowcontrol.priority:FlowSchemaStrategy",
    ("flowcontrol.apiserver.k8s.io", "flowschemas/status"): "flowcontrol.priority:FlowControlStatusStrategy",
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"): "flowcontrol.priority:PriorityLevelConfigurationStrategy",
    ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations/status"): "flowcontrol.priority:FlowControlStatusStrategy",
    ("networking.k8s.io", "ingressclasses"): "networking.ingress:IngressClassStrategy",
    ("networking.k8s.io", "ingresses"): "networking.ingress:IngressStrategy",
    ("networking.k8s.io", "ipaddresses"): "networking.addresses:IPAddressStrategy",
    ("networking.k8s.io", "networkpolicies"): "networking.networkpolicy:NetworkPolicyStrategy",
    ("networking.k8s.io", "servicecidrs"): "networking.addresses:ServiceCIDRStrategy",
    ("node.k8s.io", "runtimeclasses"): "node.runtimeclass:RuntimeClassStrategy",
    ("policy", "poddisruptionbudgets"): "policy.poddisruptionbudget:PodDisruptionBudgetStrategy",
    ("policy", "poddisruptionbudgets/status"): "policy.poddisruptionbudget:PodDisruptionBudgetStatusStrategy",
    ("rbac.authorization.k8s.io", "clusterrolebindings"): "rbac.roles:RoleBindingStrategy",
    ("rbac.authorization.k8s.io", "clusterroles"): "rbac.roles:RoleStrategy",
    ("rbac.authorization.k8s.io", "rolebindings"): "rbac.roles:RoleBindingStrategy",
    ("rbac.authorization.k8s.io", "roles"): "rbac.roles:RoleStrategy",
    ("resource.k8s.io", "deviceclasses"): "devices.claims:DeviceClassStrategy",
    ("resource.k8s.io", "devicetaintrules"): "devices.slices:DeviceTaintRuleStrategy",
    ("resource.k8s.io", "resourceclaims"): "devices.claims:ResourceClaimStrategy",
    ("resource.k8s.io", "resourceclaims/status"): "devices.claims:ResourceClaimStatusStrategy",
    ("resource.k8s.io", "resourceclaimtemplates"): "devices.claims:ResourceClaimTemplateStrategy",
    ("resource.k8s.io", "resourceslices"): "devices.slices:ResourceSliceStrategy",
    ("scheduling.k8s.io", "priorityclasses"): "scheduling.priorityclass:PriorityClassStrategy",
    ("storage.k8s.io", "csidrivers"): "storage.csi:CSIDriverStrategy",
    ("storage.k8s.io", "csinodes"): "storage.csi:CSINodeStrategy",
    ("storage.k8s.io", "csistoragecapacities"): "storage.csi:CSIStorageCapacityStrategy",
    ("storage.k8s.io", "storageclasses"): "storage.classes:StorageClassStrategy",
    ("storage.k8s.io", "volumeattachments"): "storage.csi:VolumeAttachmentStrategy",
    ("storage.k8s.io", "volumeattributesclasses"): "storage.classes:VolumeAttributesClassStrategy",
}
"""(group, plural or plural/subresource) → module:class below this package."""


def _lazy(where: str, subresource: str) -> Factory:
    module_name, _, class_name = where.partition(":")

    def make(resource: Resource) -> Strategy:
        cls = getattr(import_module(f".{module_name}", __package__), class_name)
        strategy: Strategy = cls(strategy_for(resource)) if subresource else cls(resource)
        return strategy

    return make


def register_all() -> None:
    """Fill the table of strategies for all built-in resources."""
    for resource in BUILTIN:
        for subresource in ("", *(s.name for s in resource.subresources)):
            plural = f"{resource.plural}/{subresource}" if subresource else resource.plural
            where = STRATEGIES.get((resource.group, plural))
            if where is not None:
                register(resource, _lazy(where, subresource), subresource)


register_all()
