"""Kinds of the admissionregistration group: webhook configurations, admission policies and their bindings."""
