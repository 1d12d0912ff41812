"""The life of a pod on its node: pure decisions (what to start or kill, which status to report) and the worker that applies them."""
