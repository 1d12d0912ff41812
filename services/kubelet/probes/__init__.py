"""Liveness, readiness and startup probes: a pure state machine, the checks themselves, and the manager that schedules them."""
