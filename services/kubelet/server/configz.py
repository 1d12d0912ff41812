"""/configz: the settings of the kubelet as a KubeletConfiguration (kubelet.config.k8s.io/v1beta1). Pure.

Settings that simulated nodes have no flag for are shown with Kubernetes' defaults where they do behave so.
"""

from __future__ import annotations

from kubecosm.api.resources import Object

from ..config import Config
from ..pods.backoff import format_delay


def kubelet_configuration(config: Config, port: int) -> Object:
    """What `kubectl get --raw /api/v1/nodes/NODE/proxy/configz` shows under `kubeletconfig`."""
    return {
        "enableServer": True,
        "address": config.address or "0.0.0.0",
        "port": port,
        "tlsCertFile": config.tls_cert_file,
        "tlsPrivateKeyFile": config.tls_private_key_file,
        "authentication": {
            "x509": {"clientCAFile": config.client_ca_file},
            "webhook": {
                "enabled": config.authentication_token_webhook, "cacheTTL": format_delay(config.authentication_token_webhook_cache_ttl),
            },
            "anonymous": {"enabled": False},
        },
        "authorization": {
            "mode": config.authorization_mode,
            "webhook": {
                "cacheAuthorizedTTL": format_delay(config.authorization_webhook_cache_authorized_ttl),
                "cacheUnauthorizedTTL": format_delay(config.authorization_webhook_cache_unauthorized_ttl),
            },
        },
        "registerNode": True,
        "eventRecordQPS": int(config.event_qps),
        "eventBurst": config.event_burst,
        "clusterDomain": config.cluster_domain,
        "clusterDNS": [config.cluster_dns],
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": format_delay(config.node_status_report_frequency),
        "nodeLeaseDurationSeconds": config.node_lease_duration_seconds,
        "maxPods": config.max_pods,
        "nodeStatusMaxImages": 50,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "10%"},
        "evictionPressureTransitionPeriod": "5m0s",
        "shutdownGracePeriod": format_delay(config.shutdown_grace_period),
        "shutdownGracePeriodCriticalPods": format_delay(config.shutdown_grace_period_critical_pods),
        "enableControllerAttachDetach": True,
        "failSwapOn": True,
        "serializeImagePulls": True,
        "cgroupDriver": "systemd",
    }  # fmt: skip
