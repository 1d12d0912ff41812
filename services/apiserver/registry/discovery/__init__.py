"""Kinds of the discovery group: EndpointSlices."""
