"""Who is asking: front proxies, client certificates, tokens (static, ServiceAccount, bootstrap, OpenID Connect, webhook), anonymous.

`filter` asks in that order; `contract` is what those who know tokens have in common. See docs/security.md.
"""
