"""APIServices: which group and version is served here and which by an extension server behind a Service. See docs/aggregation.md."""
