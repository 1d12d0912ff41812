"""Audit: what was asked of the server, by whom, and what became of it. Off unless --audit-policy-file names a policy.

See docs/audit.md.
"""
