"""EncryptionConfiguration: which resources are encrypted, and with what. Imitates apiserver/pkg/server/options/encryptionconfig."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kubecosm.runtime.clock import Clock, RealClock
from kubecosm.runtime.errors import StartupError, startup
from kubecosm.runtime.flags import parse_duration

from .kms import Kms
from .kmsplugin import KmsError, KmsPlugin
from .providers import KINDS, Identity, Provider

API_VERSION, KIND = "apiserver.config.k8s.io/v1", "EncryptionConfiguration"


@dataclass(frozen=True, slots=True)
class Entry:
    """Resources (`secrets`, `deployments.apps`, `*.apps`, `*.*`) and their providers: the first writes, all read."""

    resources: tuple[str, ...]
    providers: tuple[Provider, ...]

    def covers(self, group: str, plural: str) -> bool:
        return any(wanted in self.resources for wanted in ("*.*", f"*.{group}", f"{plural}.{group}" if group else plural))


def providers_for(entries: Sequence[Entry], group: str, plural: str) -> tuple[Provider, ...]:
    """Of the first entry that covers a resource; none if it is stored as it is."""
    return next((entry.providers for entry in entries if entry.covers(group, plural)), ())


def load_entries(path: Path, clock: Clock | None = None) -> tuple[Entry, ...]:
    """Raises StartupError that names the file and the field. KMS plugins are asked for their status."""
    with startup(f"read the encryption configuration {path}"):
        text = path.read_text(encoding="utf-8")
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StartupError(f"invalid encryption configuration {path}: {error}") from error
    if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (API_VERSION, KIND):
        raise StartupError(f"invalid encryption configuration {path}: expected apiVersion: {API_VERSION} and kind: {KIND}")
    try:
        loading = _Loading(clock or RealClock())
        return tuple(loading.entry(entry, f"resources[{i}]") for i, entry in enumerate(document.get("resources") or ()))
    except ValueError as error:
        raise StartupError(f"invalid encryption configuration {path}: {error}") from error


class _Loading:
    """One reading of a file; a KMS plugin that several entries name is one provider."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._plugins: dict[str, tuple[str, Kms]] = {}

    def entry(self, entry: Mapping[str, Any], path: str) -> Entry:
        """Raises ValueError, StartupError."""
        resources, providers = entry.get("resources") or (), entry.get("providers") or ()
        if not resources:
            raise ValueError(f"{path}.resources: Required value: at least one resource is required")
        if not providers:
            raise ValueError(f"{path}.providers: Required value: at least one provider is required")
        for resource in resources:
            if resource.startswith("*") and not resource.startswith("*."):
                advice = "use '*.<group>' for all of a group, or '*.*' for everything"
                raise ValueError(f"{path}.resources: Invalid value: {resource!r}: {advice}")
        made: list[Provider] = []
        for i, provider in enumerate(providers):
            made += self._providers(provider, f"{path}.providers[{i}]")
        return Entry(tuple(resources), tuple(made))

    def _providers(self, provider: Mapping[str, Any], path: str) -> list[Provider]:
        """One per key: a provider reads with all of its keys and writes with the first."""
        if len(provider) != 1:
            raise ValueError(f"{path}: Required value: exactly one provider is required")
        ((kind, settings),) = provider.items()
        if kind == "identity":
            return [Identity()]
        if kind == "kms":
            return [self._kms(settings or {}, f"{path}.kms")]
        if kind not in KINDS:
            raise ValueError(f"{path}.{kind}: not supported: use {', '.join(sorted([*KINDS, 'kms']))} or identity")
        make, sizes = KINDS[kind]
        keys = (settings or {}).get("keys") or ()
        if not keys:
            raise ValueError(f"{path}.{kind}.keys: Required value: at least one key is required")
        return [make(*_key(key, f"{path}.{kind}.keys[{i}]", sizes)) for i, key in enumerate(keys)]

    def _kms(self, settings: Mapping[str, Any], path: str) -> Kms:
        """Raises ValueError, StartupError."""
        name, endpoint, version = settings.get("name") or "", settings.get("endpoint") or "", settings.get("apiVersion") or "v1"
        if version != "v2":
            raise ValueError(f"{path}.apiVersion: Invalid value: {version!r}: KMSv1 is deprecated and off, use v2")
        if not name or ":" in name:
            raise ValueError(f"{path}.name: Invalid value: {name!r}: a provider needs a name without a colon")
        if not endpoint.startswith("unix:///"):
            raise ValueError(f"{path}.endpoint: Invalid value: {endpoint!r}: unsupported scheme for KMS provider, only unix is supported")
        if "cachesize" in settings:
            raise ValueError(f"{path}.cachesize: Invalid value: {settings['cachesize']!r}: cachesize is not supported in v2")
        known = self._plugins.get(name)
        if known is not None and known[0] != endpoint:
            raise ValueError(f"{path}.name: Invalid value: {name!r}: duplicate provider name, names must be unique")
        if known is None:
            try:
                seconds = parse_duration(str(settings.get("timeout") or "3s"))
                known = endpoint, Kms(name, KmsPlugin(name, endpoint, seconds), self._clock)
            except KmsError as error:
                raise StartupError(f"the KMS plugin {name} at {endpoint} cannot be used: {error}") from error
            self._plugins[name] = known
        return known[1]


def _key(key: Mapping[str, Any], path: str, sizes: tuple[int, ...]) -> tuple[str, bytes]:
    name = key.get("name") or ""
    if not name or ":" in name:
        raise ValueError(f"{path}.name: Invalid value: {name!r}: a key needs a name without a colon")
    try:
        secret = base64.b64decode(key.get("secret") or "", validate=True)
    except binascii.Error:
        raise ValueError(f"{path}.secret: Invalid value: secrets must be base64 encoded") from None
    if len(secret) not in sizes:
        wanted = f"got {len(secret)}, expected one of {', '.join(map(str, sizes))}"
        raise ValueError(f"{path}.secret: Invalid value: secret is not of the expected length, {wanted}")
    return name, secret
