"""The `kubecosm` command: starts, shows, troubles and stops clusters. Modules by theme; nothing heavy is imported before it is needed."""
