"""Process bootstrap: flags, clock, structured logs, metrics, health, TLS, signals."""
