"""Facts about the built-in kinds, made by scripts/generate_*.py from published documents of Kubernetes; never edited by hand."""
