"""The auditor that the flags ask for."""

from __future__ import annotations

from pathlib import Path

from kubecosm.runtime.clock import Clock
from kubecosm.runtime.errors import StartupError, startup

from ..config import Config
from .backends import FORMATS, Backend, log_backend, webhook_backend
from .filter import Auditor
from .policy import load_policy
from .rotation import STANDARD_OUTPUT, RotatingFile


def build_auditor(config: Config, clock: Clock) -> Auditor | None:
    """None unless there are a policy and a backend. Raises StartupError."""
    if not config.audit_policy_file or not (config.audit_log_path or config.audit_webhook_config_file):
        return None
    policy = load_policy(Path(config.audit_policy_file))
    backends: list[Backend] = []
    if config.audit_log_path:
        if config.audit_log_format not in FORMATS:
            raise StartupError(f"invalid --audit-log-format {config.audit_log_format!r}: expected one of {', '.join(FORMATS)}")
        file = RotatingFile(
            config.audit_log_path, size_max_mib=config.audit_log_maxsize, backups_max=config.audit_log_maxbackup,
            age_max_days=config.audit_log_maxage,
        )  # fmt: skip
        if config.audit_log_path != STANDARD_OUTPUT:
            with startup(f"write the audit log {config.audit_log_path}"):
                file.path.parent.mkdir(parents=True, exist_ok=True)
                file.write(b"", clock.now())
        backends.append(log_backend(clock, file, config.audit_log_format))
    if config.audit_webhook_config_file:
        from kubecosm.client.config import ConfigError

        try:
            backends.append(webhook_backend(clock, Path(config.audit_webhook_config_file)))
        except ConfigError as error:
            raise StartupError(f"--audit-webhook-config-file: {error}") from error
    return Auditor(policy, backends, clock)
