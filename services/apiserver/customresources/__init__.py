"""CustomResourceDefinitions at work: their names are accepted, their resources served, their instances checked and, at the end, removed.

Left out: estimated costs of CEL rules, conversion by webhooks (objects keep their fields, as with
strategy None), and the coercion of the metadata of embedded resources.
"""
