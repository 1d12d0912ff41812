"""Go's internal pod types as its encoder prints them: some complaints of Kubernetes show such a struct, or the difference of two.

The table below holds the facts: for each struct its fields in order. After a field's Go name stands its type:
`*` pointer to a scalar, `#` integer, `?` bool, `~` quantity, `!` int-or-string, `[]` list of scalars, `{}` map,
`[T]` list of structs, `*T` pointer to a struct, `=T` struct; nothing: string. `/wire` names the JSON field where it is not the
Go name with a small first letter. `@T` inlines the fields of another struct. Imitates pkg/apis/core/types.go of Kubernetes 1.36.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from kubecosm.api.resources import Object

from .values import selector_value, sorted_map

_STRUCTS = """
PodSpec: Volumes[Volume] InitContainers[Container] Containers[Container] EphemeralContainers[EphemeralContainer] RestartPolicy
 TerminationGracePeriodSeconds* ActiveDeadlineSeconds* DNSPolicy/dnsPolicy NodeSelector{} ServiceAccountName
 AutomountServiceAccountToken* NodeName SecurityContext*PodSecurityContext ImagePullSecrets[LocalObjectReference] Hostname
 Subdomain SetHostnameAsFQDN* Affinity*Affinity SchedulerName Tolerations[Toleration] HostAliases[HostAlias] PriorityClassName
 Priority* PreemptionPolicy* DNSConfig*PodDNSConfig/dnsConfig ReadinessGates[PodReadinessGate] RuntimeClassName* Overhead{}
 EnableServiceLinks* TopologySpreadConstraints[TopologySpreadConstraint] OS*PodOS/os SchedulingGates[PodSchedulingGate]
 ResourceClaims[PodResourceClaim] Resources*ResourceRequirements HostnameOverride* SchedulingGroup*PodSchedulingGroup
PodSecurityContext: HostNetwork? HostPID?/hostPID HostIPC?/hostIPC ShareProcessNamespace* HostUsers*
 SELinuxOptions*SELinuxOptions/seLinuxOptions WindowsOptions*WindowsSecurityContextOptions RunAsUser* RunAsGroup* RunAsNonRoot*
 SupplementalGroups[] SupplementalGroupsPolicy* FSGroup*/fsGroup FSGroupChangePolicy*/fsGroupChangePolicy Sysctls[Sysctl]
 SeccompProfile*SeccompProfile AppArmorProfile*SeccompProfile SELinuxChangePolicy*/seLinuxChangePolicy
SecurityContext: Capabilities*Capabilities Privileged* SELinuxOptions*SELinuxOptions/seLinuxOptions
 WindowsOptions*WindowsSecurityContextOptions RunAsUser* RunAsGroup* RunAsNonRoot* ReadOnlyRootFilesystem*
 AllowPrivilegeEscalation* ProcMount* SeccompProfile*SeccompProfile AppArmorProfile*SeccompProfile
Capabilities: Add[] Drop[]
SELinuxOptions: User Role Type Level
WindowsSecurityContextOptions: GMSACredentialSpecName*/gmsaCredentialSpecName GMSACredentialSpec*/gmsaCredentialSpec
 RunAsUserName* HostProcess*
SeccompProfile: Type LocalhostProfile*
Sysctl: Name Value
Container: Name Image Command[] Args[] WorkingDir Ports[ContainerPort] EnvFrom[EnvFromSource] Env[EnvVar]
 Resources=ResourceRequirements ResizePolicy[ContainerResizePolicy] RestartPolicy* RestartPolicyRules[ContainerRestartRule]
 VolumeMounts[VolumeMount] VolumeDevices[VolumeDevice] LivenessProbe*Probe ReadinessProbe*Probe StartupProbe*Probe
 Lifecycle*Lifecycle TerminationMessagePath TerminationMessagePolicy ImagePullPolicy SecurityContext*SecurityContext Stdin?
 StdinOnce? TTY?/tty
EphemeralContainer: @Container TargetContainerName
ContainerPort: Name HostPort# ContainerPort# Protocol HostIP/hostIP
EnvFromSource: Prefix ConfigMapRef*EnvSource SecretRef*EnvSource
EnvSource: Name Optional*
EnvVar: Name Value ValueFrom*EnvVarSource
EnvVarSource: FieldRef*ObjectFieldSelector ResourceFieldRef*ResourceFieldSelector ConfigMapKeyRef*KeySelector
 SecretKeyRef*KeySelector FileKeyRef*FileKeySelector
ObjectFieldSelector: APIVersion/apiVersion FieldPath
ResourceFieldSelector: ContainerName Resource Divisor~
KeySelector: Name Key Optional*
FileKeySelector: VolumeName Path Key Optional*
ResourceRequirements: Limits{} Requests{} Claims[ResourceClaim]
ResourceClaim: Name Request
ContainerResizePolicy: ResourceName RestartPolicy
ContainerRestartRule: Action ExitCodes*ContainerRestartRuleOnExitCodes
ContainerRestartRuleOnExitCodes: Operator Values[]
VolumeMount: Name ReadOnly? RecursiveReadOnly* MountPath SubPath MountPropagation* SubPathExpr
VolumeDevice: Name DevicePath
Probe: @ProbeHandler InitialDelaySeconds# TimeoutSeconds# PeriodSeconds# SuccessThreshold# FailureThreshold#
 TerminationGracePeriodSeconds*
ProbeHandler: Exec*ExecAction HTTPGet*HTTPGetAction/httpGet TCPSocket*TCPSocketAction/tcpSocket GRPC*GRPCAction/grpc
ExecAction: Command[]
HTTPGetAction: Path Port! Host Scheme HTTPHeaders[HTTPHeader]/httpHeaders
HTTPHeader: Name Value
TCPSocketAction: Port! Host
GRPCAction: Port# Service*
Lifecycle: PostStart*LifecycleHandler PreStop*LifecycleHandler StopSignal*
LifecycleHandler: Exec*ExecAction HTTPGet*HTTPGetAction/httpGet TCPSocket*TCPSocketAction/tcpSocket Sleep*SleepAction
SleepAction: Seconds#
LocalObjectReference: Name
Affinity: NodeAffinity*NodeAffinity PodAffinity*PodAffinity PodAntiAffinity*PodAffinity
NodeAffinity: RequiredDuringSchedulingIgnoredDuringExecution*NodeSelector
 PreferredDuringSchedulingIgnoredDuringExecution[PreferredSchedulingTerm]
NodeSelector: NodeSelectorTerms[NodeSelectorTerm]
NodeSelectorTerm: MatchExpressions[NodeSelectorRequirement] MatchFields[NodeSelectorRequirement]
NodeSelectorRequirement: Key Operator Values[]
PreferredSchedulingTerm: Weight# Preference=NodeSelectorTerm
PodAffinity: RequiredDuringSchedulingIgnoredDuringExecution[PodAffinityTerm]
 PreferredDuringSchedulingIgnoredDuringExecution[WeightedPodAffinityTerm]
WeightedPodAffinityTerm: Weight# PodAffinityTerm=PodAffinityTerm
PodAffinityTerm: LabelSelector*LabelSelector Namespaces[] TopologyKey NamespaceSelector*LabelSelector MatchLabelKeys[]
 MismatchLabelKeys[]
Toleration: Key Operator Value Effect TolerationSeconds*
HostAlias: IP/ip Hostnames[]
PodDNSConfig: Nameservers[] Searches[] Options[PodDNSConfigOption]
PodDNSConfigOption: Name Value*
PodReadinessGate: ConditionType
TopologySpreadConstraint: MaxSkew# TopologyKey WhenUnsatisfiable LabelSelector*LabelSelector MinDomains* NodeAffinityPolicy*
 NodeTaintsPolicy* MatchLabelKeys[]
PodOS: Name
PodSchedulingGate: Name
PodSchedulingGroup: PodGroupName*
PodResourceClaim: Name ResourceClaimName* ResourceClaimTemplateName*
Volume: Name @VolumeSource
VolumeSource: HostPath*HostPath EmptyDir*EmptyDir GCEPersistentDisk*GCEDisk/gcePersistentDisk
 AWSElasticBlockStore*AWSDisk/awsElasticBlockStore GitRepo*GitRepo Secret*SecretVolume NFS*NFS/nfs ISCSI*ISCSI/iscsi
 Glusterfs*Glusterfs PersistentVolumeClaim*ClaimVolume RBD*RBD/rbd Quobyte*Quobyte FlexVolume*FlexVolume Cinder*Cinder
 CephFS*CephFS/cephfs Flocker*Flocker DownwardAPI*DownwardAPIVolume/downwardAPI FC*FC/fc AzureFile*AzureFile
 ConfigMap*ConfigMapVolume VsphereVolume*Vsphere AzureDisk*AzureDisk PhotonPersistentDisk*Photon Projected*Projected
 PortworxVolume*Portworx ScaleIO*ScaleIO/scaleIO StorageOS*StorageOS/storageos CSI*CSI/csi Ephemeral*EphemeralVolume
 Image*ImageVolume
HostPath: Path Type*
EmptyDir: Medium SizeLimit*
GCEDisk: PDName/pdName FSType/fsType Partition# ReadOnly?
AWSDisk: VolumeID/volumeID FSType/fsType Partition# ReadOnly?
GitRepo: Repository Revision Directory
SecretVolume: SecretName Items[KeyToPath] DefaultMode* Optional*
ConfigMapVolume: Name Items[KeyToPath] DefaultMode* Optional*
KeyToPath: Key Path Mode*
NFS: Server Path ReadOnly?
ISCSI: TargetPortal IQN/iqn Lun# ISCSIInterface/iscsiInterface FSType/fsType ReadOnly? Portals[]
 DiscoveryCHAPAuth?/chapAuthDiscovery SessionCHAPAuth?/chapAuthSession SecretRef*LocalObjectReference InitiatorName*
Glusterfs: EndpointsName/endpoints Path ReadOnly?
ClaimVolume: ClaimName ReadOnly?
RBD: CephMonitors[]/monitors RBDImage/image FSType/fsType RBDPool/pool RadosUser/user Keyring SecretRef*LocalObjectReference
 ReadOnly?
Quobyte: Registry Volume ReadOnly? User Group Tenant
FlexVolume: Driver FSType/fsType SecretRef*LocalObjectReference ReadOnly? Options{}
Cinder: VolumeID/volumeID FSType/fsType ReadOnly? SecretRef*LocalObjectReference
CephFS: Monitors[] Path User SecretFile SecretRef*LocalObjectReference ReadOnly?
Flocker: DatasetName DatasetUUID
DownwardAPIVolume: Items[DownwardAPIFile] DefaultMode*
DownwardAPIFile: Path FieldRef*ObjectFieldSelector ResourceFieldRef*ResourceFieldSelector Mode*
FC: TargetWWNs[] Lun* FSType/fsType ReadOnly? WWIDs[]/wwids
AzureFile: SecretName ShareName ReadOnly?
Vsphere: VolumePath FSType/fsType StoragePolicyName StoragePolicyID
AzureDisk: DiskName DataDiskURI/diskURI CachingMode* FSType*/fsType ReadOnly* Kind*
Photon: PdID/pdID FSType/fsType
Projected: Sources[Projection] DefaultMode*
Projection: Secret*SecretProjection DownwardAPI*DownwardAPIProjection/downwardAPI ConfigMap*SecretProjection
 ServiceAccountToken*TokenProjection ClusterTrustBundle*TrustBundleProjection PodCertificate*CertificateProjection
SecretProjection: Name Items[KeyToPath] Optional*
DownwardAPIProjection: Items[DownwardAPIFile]
TokenProjection: Audience ExpirationSeconds# Path
TrustBundleProjection: Name* SignerName* LabelSelector*LabelSelector Optional* Path
CertificateProjection: SignerName KeyType MaxExpirationSeconds* CredentialBundlePath KeyPath CertificateChainPath
 UserAnnotations{}
Portworx: VolumeID/volumeID FSType/fsType ReadOnly?
ScaleIO: Gateway System SecretRef*LocalObjectReference SSLEnabled?/sslEnabled ProtectionDomain StoragePool StorageMode VolumeName
 FSType/fsType ReadOnly?
StorageOS: VolumeName VolumeNamespace FSType/fsType ReadOnly? SecretRef*LocalObjectReference
CSI: Driver ReadOnly* FSType*/fsType VolumeAttributes{} NodePublishSecretRef*LocalObjectReference
EphemeralVolume: VolumeClaimTemplate*ClaimTemplate
ClaimTemplate: @ObjectMeta Spec=ClaimSpec
ClaimSpec: AccessModes[] Selector*LabelSelector Resources=VolumeResources VolumeName StorageClassName* VolumeMode*
 DataSource*TypedReference DataSourceRef*TypedObjectReference VolumeAttributesClassName*
VolumeResources: Limits{} Requests{}
TypedReference: APIGroup*/apiGroup Kind Name
TypedObjectReference: APIGroup*/apiGroup Kind Name Namespace*
ImageVolume: Reference PullPolicy
PodTemplateSpec: @ObjectMeta Spec=PodSpec
DeploymentStrategy: Type RollingUpdate*RollingUpdateDeployment
RollingUpdateDeployment: MaxUnavailable! MaxSurge!
DaemonSetUpdateStrategy: Type RollingUpdate*RollingUpdateDaemonSet
RollingUpdateDaemonSet: MaxUnavailable! MaxSurge!
StatefulSetUpdateStrategy: Type RollingUpdate*RollingUpdateStatefulSet
RollingUpdateStatefulSet: Partition# MaxUnavailable*
NodeAddress: Type Address
"""

_FIELD = re.compile(r"(?P<name>\w+)(?P<mark>\[\w*\]|\{\}|[*=]\w*|[#?~!])?(?:/(?P<wire>\w+))?")
_HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers")
"""Fields of a PodSpec that the internal type keeps in its SecurityContext."""

_META_FIELDS = (
    "name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
)  # fmt: skip
_ZEROS: dict[str, Any] = {"": "", "#": 0, "?": False, "~": "0", "!": 0}


@cache
def _table() -> dict[str, list[str]]:
    text = re.sub(r"\n ", " ", _STRUCTS)
    return {name: fields.split() for name, _, fields in (line.partition(": ") for line in text.split("\n") if line)}


@cache
def _dumper(struct: str) -> Callable[[Object], dict[str, Any]]:
    """Compile one struct to a function from its wire form to what Go prints."""
    parts = [_part(field) for field in _table()[struct]]

    def run(value: Object) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for part in parts:
            part(value, out)
        return out

    return run


def _part(field: str) -> Callable[[Object, dict[str, Any]], None]:
    if field == "@ObjectMeta":
        return lambda value, out: out.update(_meta(value.get("metadata") or {}))
    if field.startswith("@"):
        return lambda value, out: out.update(dump(field[1:], value))
    match = _FIELD.fullmatch(field)
    assert match is not None, field
    name, mark = match["name"], match["mark"] or ""
    wire = match["wire"] or name[0].lower() + name[1:]
    convert = _converter(mark)

    def put(value: Object, out: dict[str, Any]) -> None:
        out[name] = convert(value.get(wire))

    return put


def _converter(mark: str) -> Callable[[Any], Any]:
    if mark == "{}":
        return sorted_map
    if mark in ("*", "[]"):
        return lambda value: value
    if mark in _ZEROS:
        zero = _ZEROS[mark]
        return lambda value: zero if value is None else value
    struct = mark.strip("[]*=")
    if mark[0] == "[":
        return lambda value: None if value is None else [dump(struct, item) for item in value]
    if mark[0] == "*":
        return lambda value: None if value is None else dump(struct, value)
    return lambda value: dump(struct, value or {})


def _meta(metadata: Object) -> dict[str, Any]:
    """ObjectMeta has JSON names even in the internal types."""
    shown = {field: metadata[field] for field in _META_FIELDS if metadata.get(field)}
    for field in ("labels", "annotations"):
        if field in shown:
            shown[field] = sorted_map(shown[field])
    return shown


def dump(struct: str, value: Object) -> dict[str, Any]:
    """What Go's JSON of the internal struct holds, for an object in wire form."""
    if struct == "LabelSelector":
        return selector_value(value) or {}
    if struct == "PodSpec":
        context = {**(value.get("securityContext") or {}), **{field: value[field] for field in _HOST_FIELDS if field in value}}
        value = {**value, "securityContext": context if context or "securityContext" in value else None}
    return _dumper(struct)(value)


def difference(struct: str, old: Object, new: Object) -> str:
    """The unified difference of two structs, one field a line (apimachinery's diff.Diff)."""
    before, after = (json.dumps(dump(struct, value), indent=1, ensure_ascii=False).splitlines(keepends=True) for value in (old, new))
    lines = list(difflib.unified_diff(before, after))[2:]
    return "".join(lines)
