"""Kinds of the certificates group: CertificateSigningRequests."""
