"""The in-tree plugins, one module each, under their real names."""
