"""Who may do what: RBAC, the Node authorizer, webhooks, in the order of --authorization-mode. See docs/security.md.

`attributes` is the contract of those who decide, `modes` builds them from the flags, `filter` asks them, `escalation` guards the rights
that roles and bindings give. The default roles and bindings are `bootstrap`.
"""
