"""Kinds of the rbac group: roles and bindings."""
