"""For tests of controllers and clients: virtual time, a small API server in memory, scripted answers, waiting, and the pytest plugin."""
