"""Where the server is reached, and how it calls kubelets."""

from __future__ import annotations

import socket
import ssl
from ipaddress import ip_address

from kubecosm.runtime.tls import client_context

from .aggregation.remote import Identity
from .authn.facts import authentication_facts, ensure_authentication_facts
from .config import Config
from .rotatedfiles import RotatedFiles
from .state import State

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


def follow_client_certificates(config: Config, state: State, kubelets: ssl.SSLContext | None, identity: Identity) -> None:
    """Have the certificates that kubelets and extension servers are shown, and what these are told to believe, kept up with their files."""
    cert, key = config.kubelet_client_certificate, config.kubelet_client_key
    if kubelets is not None and cert and key:
        state.rotated_files.append(
            RotatedFiles("certificate for kubelets", (cert, key), lambda: kubelets.load_cert_chain(cert, key))
        )
    if all(identity.files):
        state.rotated_files.append(RotatedFiles("certificate for extension servers", identity.files, identity.take_up))
    authorities = (config.client_ca_file, config.requestheader_client_ca_file)
    if any(authorities):
        state.rotated_files.append(RotatedFiles("authorities that extension servers believe", authorities, lambda: _publish(config, state)))


def _publish(config: Config, state: State) -> None:
    """Raises StartupError."""
    authentication_facts(config)  # so that a file that cannot be read is told here
    if state.tasks is not None:
        state.tasks.create_task(ensure_authentication_facts(state, config), name="authentication facts")
