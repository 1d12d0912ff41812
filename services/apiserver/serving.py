"""Where the server is reached, and how it calls kubelets."""

from __future__ import annotations

import socket
import ssl
from ipaddress import ip_address

from kubecosm.runtime.tls import client_context

from .config import Config

DOCUMENTATION_ADDRESS = "192.0.2.1"
"""Nobody has it (RFC 5737); asking for the route to it tells which address is ours."""


def advertised_address(config: Config) -> str:
    """The address that others reach this server at: the flag, the address it listens on, or else this machine's own."""
    address = config.advertise_address or config.bind_address
    return primary_address() if ip_address(address).is_unspecified else address


def primary_address() -> str:
    """The address this machine would call the outside from; loopback if it has no outside. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((DOCUMENTATION_ADDRESS, 1))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def etcd_context(config: Config) -> ssl.SSLContext | None:
    """How etcd is called: trusting --etcd-cafile, with our certificate if there is one; None for plain HTTP. Raises StartupError."""
    if not any(address.startswith("https:") for address in config.etcd_servers):
        return None
    return client_context(config.etcd_cafile or None, config.etcd_certfile or None, config.etcd_keyfile or None)


def kubelet_context(config: Config) -> ssl.SSLContext | None:
    """How kubelets are called: with our certificate, trusting their authority; None if that is not configured. Raises StartupError."""
    if not config.kubelet_certificate_authority:
        return None
    cert, key = config.kubelet_client_certificate or None, config.kubelet_client_key or None
    return client_context(config.kubelet_certificate_authority, cert, key)
