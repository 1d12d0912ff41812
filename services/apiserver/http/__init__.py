"""The HTTP side of the apiserver: connections, requests, responses and the ordered list of filters."""
