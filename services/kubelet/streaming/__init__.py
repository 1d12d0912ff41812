"""Streams over one connection: SPDY/3.1 and WebSocket framing, and on top of them exec, attach and port-forward as kubectl speaks them."""
