"""The auditor that the flags ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError, startup

from ..auditflags import AuditFlags
from .backends import BATCH, BLOCKING_STRICT, MODES, Backend, Batching, Blocking, Buffered, Sink, Truncating
from .filter import Auditor
from .policy import GROUP_VERSION, load_policy
from .rotation import STANDARD_OUTPUT, RotatingFile
from .sinks import FORMATS, LogSink, WebhookSink

T = TypeVar("T")


def build_auditor(flags: AuditFlags, clock: Clock) -> Auditor | None:
    """None unless there are a policy and a backend. Raises StartupError."""
    if not flags.audit_policy_file:
        return None
    policy = load_policy(Path(flags.audit_policy_file))
    if not (flags.audit_log_path or flags.audit_webhook_config_file):
        return None
    backends: list[Backend] = []
    if flags.audit_log_path:
        backends.append(_backend(_log(flags, clock), flags, clock))
    if flags.audit_webhook_config_file:
        backends.append(_backend(_webhook(flags, clock), flags, clock))
    return Auditor(policy, backends, clock)


def _log(flags: AuditFlags, clock: Clock) -> LogSink:
    if flags.audit_log_format not in FORMATS:
        raise StartupError(f"invalid --audit-log-format {flags.audit_log_format!r}: expected one of {', '.join(FORMATS)}")
    file = RotatingFile(
        flags.audit_log_path, size_max_mib=flags.audit_log_maxsize, backups_max=flags.audit_log_maxbackup,
        age_max_days=flags.audit_log_maxage, compresses=flags.audit_log_compress,
    )  # fmt: skip
    if flags.audit_log_path != STANDARD_OUTPUT:
        with startup(f"write the audit log {flags.audit_log_path}"):
            file.path.parent.mkdir(parents=True, exist_ok=True)
            file.write(b"", clock.now())
    return LogSink(clock, file, flags.audit_log_format)


def _webhook(flags: AuditFlags, clock: Clock) -> WebhookSink:
    from kubecosm.client.config import ConfigError

    try:
        return WebhookSink(clock, Path(flags.audit_webhook_config_file), flags.audit_webhook_initial_backoff)
    except ConfigError as error:
        raise StartupError(f"--audit-webhook-config-file: {error}") from error


def _backend(sink: Sink, flags: AuditFlags, clock: Clock) -> Backend:
    """What stands between requests and a sink, by the flags of that sink. Raises StartupError."""

    def said(name: str, kind: type[T]) -> T:
        value = getattr(flags, f"audit_{sink.name}_{name}")
        assert isinstance(value, kind)
        return value

    if (version := said("version", str)) != GROUP_VERSION:
        raise StartupError(f"invalid --audit-{sink.name}-version {version!r}: expected {GROUP_VERSION}")
    if (mode := said("mode", str)) not in MODES:
        raise StartupError(f"invalid --audit-{sink.name}-mode {mode!r}: expected one of {', '.join(MODES)}")
    truncates = said("truncate_enabled", bool)
    backend: Backend
    if mode == BATCH:
        backend = Buffered(sink, clock, Batching(
            buffer_events_max=said("batch_buffer_size", int), batch_events_max=said("batch_max_size", int),
            wait_seconds=said("batch_max_wait", float), burst=said("batch_throttle_burst", int),
            batches_per_second=said("batch_throttle_qps", float) if said("batch_throttle_enable", bool) else 0.0,
            batch_bytes_max=said("truncate_max_batch_size", int) if truncates else 0,
        ))  # fmt: skip
    else:
        backend = Blocking(sink, is_strict=mode == BLOCKING_STRICT)
    return Truncating(backend, said("truncate_max_event_size", int)) if truncates else backend
