"""A KubeSchedulerConfiguration file (kubescheduler.config.k8s.io/v1): reading, checking as kube-scheduler does, and what it says."""

from .load import from_document, load
from .settings import ExtenderSettings, LeaderElectionSettings, SchedulerConfiguration

__all__ = ["ExtenderSettings", "LeaderElectionSettings", "SchedulerConfiguration", "from_document", "load"]
