"""Flags of authentication, authorization and TLS; names follow kube-apiserver's."""

from __future__ import annotations

from dataclasses import dataclass, field

from kubecosm.runtime.flags import Duration


@dataclass(frozen=True)
class AuthFlags:
    """Who is let in, and who decides what he may do."""

    client_ca_file: str = field(default="", metadata={"help": "authority of client certificates (PEM); empty: none are accepted"})
    token_auth_file: str = field(default="", metadata={"help": 'static bearer tokens, one a line: token,user,uid,"group1,group2"'})
    anonymous_auth: bool = field(default=True, metadata={"help": "let requests without credentials in as system:anonymous"})
    enable_bootstrap_token_auth: bool = field(
        default=False, metadata={"help": "accept the tokens in Secrets kube-system/bootstrap-token-*"}
    )
    authentication_config: str = field(
        default="", metadata={"help": "file of an AuthenticationConfiguration: JWT issuers and anonymous access"}
    )
    authentication_token_webhook_config_file: str = field(
        default="", metadata={"help": "kubeconfig of a service that is asked about tokens by TokenReviews"}
    )
    authentication_token_webhook_cache_ttl: Duration = field(
        default=Duration(120.0), metadata={"help": "how long that service's answers are remembered"}
    )
    authentication_token_webhook_version: str = field(
        default="v1beta1", metadata={"help": "version of the TokenReviews sent to it: v1 or v1beta1"}
    )
    api_audiences: tuple[str, ...] = field(
        default=(), metadata={"help": "what tokens for this server are meant for (aud); empty: the ServiceAccount issuer"}
    )
    oidc_issuer_url: str = field(default="", metadata={"help": "OpenID Connect issuer whose tokens are accepted (https)"})
    oidc_client_id: str = field(default="", metadata={"help": "audience that those tokens must be meant for"})
    oidc_ca_file: str = field(default="", metadata={"help": "authority of the issuer's certificate (PEM); empty: the machine's own"})
    oidc_username_claim: str = field(default="sub", metadata={"help": "claim that is the user's name"})
    oidc_username_prefix: str = field(
        default="", metadata={"help": "put before it; empty: ISSUER# unless the claim is email; - for nothing at all"}
    )
    oidc_groups_claim: str = field(default="", metadata={"help": "claim that lists the user's groups"})
    oidc_groups_prefix: str = field(default="", metadata={"help": "put before each group"})
    oidc_required_claim: tuple[str, ...] = field(default=(), metadata={"help": "claims that a token must have, as name=value"})
    oidc_signing_algs: tuple[str, ...] = field(default=("RS256",), metadata={"help": "how those tokens may be signed"})
    requestheader_client_ca_file: str = field(
        default="", metadata={"help": "authority of front proxies (PEM), whose headers are believed; not named as --client-ca-file's is"}
    )
    proxy_client_cert_file: str = field(
        default="", metadata={"help": "certificate with which this server is a front proxy to extension servers (PEM)"}
    )
    proxy_client_key_file: str = field(default="", metadata={"help": "its key (PEM)"})
    requestheader_allowed_names: tuple[str, ...] = field(
        default=(), metadata={"help": "common names of front proxies; empty: whoever that authority certifies"}
    )
    requestheader_username_headers: tuple[str, ...] = field(default=("X-Remote-User",), metadata={"help": "headers that name the user"})
    requestheader_uid_headers: tuple[str, ...] = field(default=("X-Remote-Uid",), metadata={"help": "headers that tell his uid"})
    requestheader_group_headers: tuple[str, ...] = field(default=("X-Remote-Group",), metadata={"help": "headers that name his groups"})
    requestheader_extra_headers_prefix: tuple[str, ...] = field(
        default=("X-Remote-Extra-",), metadata={"help": "beginnings of headers that tell more of him"}
    )
    authorization_mode: tuple[str, ...] = field(
        default=("AlwaysAllow",),
        metadata={"help": "who decides, in this order: Node, RBAC, Webhook, AlwaysDeny, or AlwaysAllow for everybody who proved who he is"},
    )
    authorization_config: str = field(
        default="", metadata={"help": "file of an AuthorizationConfiguration, instead of --authorization-mode"}
    )
    authorization_webhook_config_file: str = field(
        default="", metadata={"help": "kubeconfig of the service that --authorization-mode=Webhook asks by SubjectAccessReviews"}
    )
    authorization_webhook_version: str = field(
        default="v1beta1", metadata={"help": "version of the SubjectAccessReviews sent to it: v1 or v1beta1"}
    )
    authorization_webhook_cache_authorized_ttl: Duration = field(
        default=Duration(300.0), metadata={"help": "how long its consent is remembered"}
    )
    authorization_webhook_cache_unauthorized_ttl: Duration = field(
        default=Duration(30.0), metadata={"help": "how long its refusals are remembered"}
    )
    tls_min_version: str = field(default="VersionTLS12", metadata={"help": "VersionTLS10, VersionTLS11, VersionTLS12 or VersionTLS13"})
    tls_cipher_suites: tuple[str, ...] = field(
        default=(), metadata={"help": "cipher suites up to TLS 1.2, by their IANA names; empty: OpenSSL's choice"}
    )
    tls_sni_cert_key: str = field(
        default="",
        metadata={"help": "further certificates: cert,key or cert,key:name,*.name (else its own names), several with ; between"},
    )
