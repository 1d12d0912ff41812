"""Encryption at rest: values are encrypted on their way into the storage, and plain text everywhere above it. See docs/encryption.md."""
