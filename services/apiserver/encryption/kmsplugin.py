"""Speaks with a KMS plugin: a program beside the server that has the keys, called by gRPC over a Unix socket.

Imitates apiserver/pkg/storage/value/encrypt/envelope/kmsv2 (grpc_service.go); messages are those of k8s.io/kms/apis/v2. Needs grpcio:
`pip install kubecosm[kms]`. Calls block; they are made at start, by the thread that asks for the plugin's status, and when a data key is
seen for the first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

from kubecosm.runtime.errors import StartupError
from kubecosm.runtime.metrics import exponential_buckets

from ..tallies import Durations
from ..wire import data_of, entries, field, map_of, parse, text_of

SERVICE = "/v2.KeyManagementService/"
VERSIONS = ("v2", "v2beta1")
HEALTHY = "ok"
LATENCY_BUCKETS = exponential_buckets(0.0001, 2, 14)
"""apiserver_envelope_encryption_kms_operations_latency_seconds."""
KEY_ID_BYTES_MAX = 1024
ANNOTATIONS_BYTES_MAX = 32 * 1024
WRAPPED_BYTES_MAX = 1024


class KmsError(ValueError):
    """The plugin could not do it, or answered what cannot be used."""


@dataclass(frozen=True)
class Wrapped:
    """A data key as the plugin has encrypted it."""

    ciphertext: bytes
    key_id: str
    annotations: tuple[tuple[str, bytes], ...] = ()


class KmsPlugin:
    """The plugin at `unix:///…`."""

    def __init__(self, name: str, endpoint: str, seconds: float) -> None:
        """Raises StartupError without grpcio."""
        try:
            import grpc
        except ImportError as error:
            raise StartupError(f"the KMS provider {name} needs grpcio: pip install 'kubecosm[kms]'") from error
        self.name = name
        self.calls: dict[tuple[str, str], Durations] = {}
        """(method, gRPC code) → how long calls took, in real time."""
        self._grpc: Any = grpc
        self._seconds = seconds
        self._channel: Any = grpc.insecure_channel(f"unix:{endpoint.removeprefix('unix://')}")

    def status(self) -> str:
        """The id of the key that it encrypts with. Raises KmsError if it is not well."""
        answer = parse(self._call("Status", b""))
        version, health, key_id = text_of(answer, 1), text_of(answer, 2), text_of(answer, 3)
        if health != HEALTHY:
            raise KmsError(f"got unexpected healthz status: {health}")
        if version not in VERSIONS:
            raise KmsError(f"unsupported KMS API version {version}: expected one of {', '.join(VERSIONS)}")
        check_key_id(key_id)
        return key_id

    def encrypt(self, plain: bytes, uid: str) -> Wrapped:
        """Raises KmsError."""
        answer = parse(self._call("Encrypt", field(1, plain) + field(2, uid)))
        wrapped = Wrapped(data_of(answer, 1), text_of(answer, 2), tuple(sorted(map_of(answer, 3).items())))
        check_key_id(wrapped.key_id)
        if not 0 < len(wrapped.ciphertext) <= WRAPPED_BYTES_MAX:
            raise KmsError(f"encrypted DEK source is {len(wrapped.ciphertext)} bytes, expected 1 to {WRAPPED_BYTES_MAX}")
        if sum(len(key) + len(value) for key, value in wrapped.annotations) > ANNOTATIONS_BYTES_MAX:
            raise KmsError(f"total size of annotations is more than {ANNOTATIONS_BYTES_MAX} bytes")
        return wrapped

    def decrypt(self, wrapped: Wrapped, uid: str) -> bytes:
        """Raises KmsError."""
        request = field(1, wrapped.ciphertext) + field(2, uid) + field(3, wrapped.key_id) + entries(4, dict(wrapped.annotations))
        return data_of(parse(self._call("Decrypt", request)), 1)

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: str, request: bytes) -> bytes:
        call = self._channel.unary_unary(SERVICE + method)
        started, code = perf_counter(), "OK"
        try:
            answer: bytes = call(request, timeout=self._seconds, wait_for_ready=True)
        except self._grpc.RpcError as error:
            code = _camel(error.code().name)
            raise KmsError(f"KMS plugin {self.name}: {method}: {error.code().name}: {error.details()}") from error
        finally:
            self.calls.setdefault((method, code), Durations(LATENCY_BUCKETS)).observe(perf_counter() - started)
        return answer


def _camel(code: str) -> str:
    """`DEADLINE_EXCEEDED` → `DeadlineExceeded`, as Go names codes."""
    return "".join(word.capitalize() for word in code.split("_"))


def check_key_id(key_id: str) -> None:
    """Raises KmsError."""
    if not 0 < len(key_id.encode()) <= KEY_ID_BYTES_MAX:
        raise KmsError(f"keyID is {len(key_id)} bytes, expected 1 to {KEY_ID_BYTES_MAX}")
