"""Where objects are kept: a contract over opaque keys and bytes, and the backends that fulfil it: SQLite, etcd, memory."""
