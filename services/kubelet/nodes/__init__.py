"""The nodes that one process hosts: their names and addresses, their objects in the API, their leases and heartbeats."""
