"""Flags of audit; names follow kube-apiserver's."""

from __future__ import annotations

from dataclasses import dataclass, field

from kubecosm.runtime.flags import Duration


@dataclass(frozen=True)
class AuditFlags:
    """What is recorded of requests, where it goes, and whether requests wait for it."""

    audit_policy_file: str = field(default="", metadata={"help": "audit policy (audit.k8s.io/v1); empty: nothing is audited"})
    audit_log_path: str = field(default="", metadata={"help": "file that audit events are appended to; - is standard output"})
    audit_log_format: str = field(default="json", metadata={"help": "json, or legacy for one line of text an event"})
    audit_log_version: str = field(default="audit.k8s.io/v1", metadata={"help": "group and version of the events in the log"})
    audit_log_maxsize: int = field(default=100, metadata={"help": "MiB after which the audit log starts anew; 0: never"})
    audit_log_maxbackup: int = field(default=0, metadata={"help": "old audit logs that are kept; 0: all"})
    audit_log_maxage: int = field(default=0, metadata={"help": "days that old audit logs are kept; 0: for ever"})
    audit_log_compress: bool = field(default=False, metadata={"help": "compress old audit logs with gzip"})
    audit_log_mode: str = field(
        default="batch",
        metadata={"help": "batch; blocking: events are in the file before a request goes on; blocking-strict: and it fails if they cannot"},
    )
    audit_log_batch_buffer_size: int = field(default=10000, metadata={"help": "events that may wait for the log; more are dropped"})
    audit_log_batch_max_size: int = field(default=10000, metadata={"help": "events written to the log at once"})
    audit_log_batch_max_wait: Duration = field(default=Duration(0.1), metadata={"help": "how long events wait for others"})
    audit_log_batch_throttle_enable: bool = field(default=False, metadata={"help": "write no more batches than the next two flags allow"})
    audit_log_batch_throttle_qps: float = field(default=10.0, metadata={"help": "batches a second, on average"})
    audit_log_batch_throttle_burst: int = field(default=15, metadata={"help": "batches at once after a rest"})
    audit_log_truncate_enabled: bool = field(default=False, metadata={"help": "shorten large events and batches"})
    audit_log_truncate_max_event_size: int = field(
        default=102400, metadata={"help": "bytes of an event; larger ones lose the objects sent and answered"}
    )
    audit_log_truncate_max_batch_size: int = field(default=10485760, metadata={"help": "bytes of a batch; larger ones are divided"})
    audit_webhook_config_file: str = field(default="", metadata={"help": "kubeconfig of a server that audit events are posted to"})
    audit_webhook_version: str = field(default="audit.k8s.io/v1", metadata={"help": "group and version of the events posted"})
    audit_webhook_initial_backoff: Duration = field(default=Duration(10.0), metadata={"help": "rest before a failed post is tried again"})
    audit_webhook_mode: str = field(default="batch", metadata={"help": "batch, blocking or blocking-strict, as for the log"})
    audit_webhook_batch_buffer_size: int = field(default=10000, metadata={"help": "events that may wait to be posted; more are dropped"})
    audit_webhook_batch_max_size: int = field(default=400, metadata={"help": "events posted at once"})
    audit_webhook_batch_max_wait: Duration = field(default=Duration(0.1), metadata={"help": "how long events wait for others"})
    audit_webhook_batch_throttle_enable: bool = field(default=True, metadata={"help": "post no more often than the next two flags allow"})
    audit_webhook_batch_throttle_qps: float = field(default=10.0, metadata={"help": "batches a second, on average"})
    audit_webhook_batch_throttle_burst: int = field(default=15, metadata={"help": "batches at once after a rest"})
    audit_webhook_truncate_enabled: bool = field(default=False, metadata={"help": "shorten large events and batches"})
    audit_webhook_truncate_max_event_size: int = field(
        default=102400, metadata={"help": "bytes of an event; larger ones lose the objects sent and answered"}
    )
    audit_webhook_truncate_max_batch_size: int = field(default=10485760, metadata={"help": "bytes of a batch; larger ones are divided"})
