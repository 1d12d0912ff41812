"""Controllers that tell which pods stand behind a Service."""
