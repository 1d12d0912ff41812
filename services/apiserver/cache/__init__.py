"""The newest state of every resource in memory, as encoded bytes, and the watches that follow it."""
