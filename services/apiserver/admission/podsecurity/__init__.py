"""PodSecurity: namespaces say by labels which pods they take (privileged, baseline, restricted), in which version of these standards.

`policy` reads the labels, `checks` is the table of what the levels forbid, `configuration` the plugin's own defaults and exemptions,
`plugin` the decision. Imitates k8s.io/pod-security-admission.
"""

from .plugin import PodSecurity, build

__all__ = ["PodSecurity", "build"]
