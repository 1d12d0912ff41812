"""The API described for clients: OpenAPI v3 per group and version, and v2 as one document (JSON or protobuf)."""
