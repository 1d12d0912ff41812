"""ResourceQuota: what a namespace uses is charged to its quotas before an object is written, and refused beyond their limits.

Imitates k8s.io/apiserver/pkg/admission/plugin/resourcequota. Unlike it, a charge is given back when the write it was made for fails.
"""

from .accounting import limited_resources
from .plugin import ResourceQuota

__all__ = ["ResourceQuota", "limited_resources"]
