"""Kinds of the networking group: Ingresses, NetworkPolicies, IPAddresses, ServiceCIDRs."""
