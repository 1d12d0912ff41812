"""The toolbox of simulated containers: a POSIX-like shell and small programs over an in-memory file system and the real cluster network."""
