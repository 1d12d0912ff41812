"""The `sim` runtime: containers that run nothing, yet answer, log, crash, exec and exit as their image, command and annotations say."""
