"""Where the apiserver is and how to prove who one is: a kubeconfig, or what a pod finds in its file system.

Owns reading credentials and making the TLS context. Leaves out exec and auth-provider plugins, proxies and basic authentication.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ConfigError(Exception):
    """The kubeconfig (or the pod's environment) cannot be used; the message says what is wrong with which file."""


@dataclass(frozen=True)
class ClientConfig:
    """Everything an ApiClient needs to reach one server as one user. PEM data is bytes; an empty value means absent."""

    server: str
    ca_data: bytes = b""
    client_certificate_data: bytes = field(default=b"", repr=False)
    client_key_data: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    """Read again every minute, as bound service account tokens rotate."""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    namespace: str = "default"

    @staticmethod
    def from_kubeconfig(path: str | os.PathLike[str] | None = None, *, context: str | None = None) -> ClientConfig:
        """The configuration of `context` (default: the current one) in a kubeconfig file (default: $KUBECONFIG, ~/.kube/config).

        Relative file names inside are relative to the kubeconfig. Raises ConfigError.
        """
        file = Path(path) if path is not None else default_kubeconfig()
        try:
            text = file.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read kubeconfig {file}: {error.strerror}") from error
        return _from_document(_parse_yaml(text, file), file, context)

    @staticmethod
    def in_cluster(directory: Path = SERVICE_ACCOUNT_DIR) -> ClientConfig:
        """The configuration of a pod: service account token and CA below `directory`, server from the environment."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise ConfigError("not inside a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
        if not (directory / "token").is_file():
            raise ConfigError(f"not inside a pod: {directory / 'token'} does not exist")
        namespace = _read(directory / "namespace").decode().strip() if (directory / "namespace").is_file() else "default"
        ca_data = _read(directory / "ca.crt") if (directory / "ca.crt").is_file() else b""
        bracketed = f"[{host}]" if ":" in host else host
        return ClientConfig(f"https://{bracketed}:{port}", ca_data=ca_data, token_file=directory / "token", namespace=namespace)

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context for this configuration; None for a plain http:// server. Raises ConfigError on unusable PEM data."""
        if not self.server.startswith("https://"):
            return None
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if self.insecure_skip_tls_verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            elif self.ca_data:
                context.load_verify_locations(cadata=self.ca_data.decode())
            else:
                context.load_default_certs()
            if self.client_certificate_data:
                _load_cert_chain(context, self.client_certificate_data + b"\n" + self.client_key_data)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigError(f"unusable certificate or key for {self.server}: {error}") from error
        return context


@dataclass(frozen=True)
class Credentials:
    """How a user of a kubeconfig proves who he is. An empty value means absent."""

    certificate: bytes = field(default=b"", repr=False)
    key: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)

    def present(self, context: ssl.SSLContext) -> None:
        """Have the certificate shown to servers. Raises ConfigError on unusable PEM data."""
        if self.certificate:
            try:
                _load_cert_chain(context, self.certificate + b"\n" + self.key)
            except (ssl.SSLError, ValueError) as error:
                raise ConfigError(f"unusable certificate or key: {error}") from error

    def authorization(self) -> str:
        """The Authorization header, or empty. Raises ConfigError if the token's file cannot be read."""
        if self.token or self.token_file:
            token = self.token if self.token_file is None else _read(self.token_file).decode().strip()
            return f"Bearer {token}"
        if self.username or self.password:
            return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return ""


def read_users(path: str | os.PathLike[str]) -> tuple[dict[str, Credentials], str]:
    """The users of a kubeconfig by name, and whose is the current context (empty: nobody's). Raises ConfigError."""
    file = Path(path)
    document = _parse_yaml(_read(file), file)
    users = {str(entry.get("name", "")): _credentials(entry.get("user") or {}, file) for entry in document.get("users") or ()}
    current = document.get("current-context") or ""
    contexts = {entry.get("name"): entry.get("context") or {} for entry in document.get("contexts") or ()}
    return users, str(contexts.get(current, {}).get("user") or "")


def _credentials(user: dict[str, Any], file: Path) -> Credentials:
    for plugin in ("exec", "auth-provider"):
        if user.get(plugin):
            raise ConfigError(f"kubeconfig {file}: users with {plugin} are not supported here: use a token or a client certificate")
    token_file = user.get("tokenFile")
    return Credentials(
        _pem(user, "client-certificate", file), _pem(user, "client-key", file), user.get("token") or "",
        file.parent / token_file if token_file else None, user.get("username") or "", user.get("password") or "",
    )  # fmt: skip


def default_kubeconfig() -> Path:
    """The first file of $KUBECONFIG, else ~/.kube/config."""
    listed = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return Path(listed) if listed else Path.home() / ".kube" / "config"


def _parse_yaml(text: bytes, file: Path) -> dict[str, Any]:
    import yaml  # only kubeconfig users pay for it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document = yaml.load(text, Loader=loader)  # both are safe loaders
    except yaml.YAMLError as error:
        raise ConfigError(f"kubeconfig {file} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"kubeconfig {file} is not a Config object")
    return document


def _from_document(document: dict[str, Any], file: Path, context_name: str | None) -> ClientConfig:
    name = context_name or document.get("current-context") or ""
    if not name:
        raise ConfigError(f"kubeconfig {file} has no current-context")
    context = _named(document, "contexts", name, "context", file)
    cluster = _named(document, "clusters", context.get("cluster", ""), "cluster", file)
    user = _named(document, "users", context["user"], "user", file) if context.get("user") else {}
    server = cluster.get("server")
    if not server:
        raise ConfigError(f"cluster {context.get('cluster')!r} of kubeconfig {file} has no server")
    token_file = user.get("tokenFile")
    return ClientConfig(
        server=server.rstrip("/"),
        ca_data=_pem(cluster, "certificate-authority", file),
        client_certificate_data=_pem(user, "client-certificate", file),
        client_key_data=_pem(user, "client-key", file),
        token=user.get("token") or "",
        token_file=file.parent / token_file if token_file else None,
        insecure_skip_tls_verify=bool(cluster.get("insecure-skip-tls-verify", False)),
        tls_server_name=cluster.get("tls-server-name") or "",
        namespace=context.get("namespace") or "default",
    )


def _named(document: dict[str, Any], section: str, name: str, member: str, file: Path) -> dict[str, Any]:
    for entry in document.get(section) or ():
        if entry.get("name") == name:
            return entry.get(member) or {}
    raise ConfigError(f"kubeconfig {file} has no {member} named {name!r}")


def _pem(entry: dict[str, Any], member: str, file: Path) -> bytes:
    """Inline base64 `<member>-data`, else the contents of the file `<member>` names, else nothing."""
    inline = entry.get(f"{member}-data")
    if inline:
        try:
            return base64.b64decode(inline, validate=True)
        except ValueError as error:
            raise ConfigError(f"{member}-data of kubeconfig {file} is not base64") from error
    return _read(file.parent / entry[member]) if entry.get(member) else b""


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error


def _load_cert_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """OpenSSL reads chains from files only; the key touches the disk for a moment, readable by the owner alone."""
    with tempfile.NamedTemporaryFile(prefix="kubecosm-", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
