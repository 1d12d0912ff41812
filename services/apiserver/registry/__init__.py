"""What differs per kind: defaults, validation, what a client may set. One module per kind under <group>/."""
