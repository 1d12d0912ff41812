"""The pod network without root: addresses in 127.0.0.0/8, the sockets that answer on them, and what they say."""
