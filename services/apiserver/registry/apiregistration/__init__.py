"""Kinds of the apiregistration group: APIServices."""
