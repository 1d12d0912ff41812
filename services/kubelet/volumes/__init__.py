"""What containers see as files: an in-memory file system and the volumes mounted into it."""
