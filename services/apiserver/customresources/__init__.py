"""CustomResourceDefinitions at work: their names are accepted, their resources served, their instances checked and, at the end, removed.

Left out: estimated costs of CEL rules, and the coercion of the metadata of embedded resources.
"""
