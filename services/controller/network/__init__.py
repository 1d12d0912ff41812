"""Controllers that tell which pods stand behind a Service, and keep the ranges that Services get addresses from."""
