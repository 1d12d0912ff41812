"""kube-apiserver: serves the API over a storage of its own, and lets everybody watch what changes. Told in docs/apiserver.md.

`app` runs the process, `assembly` puts it together, `state` is what its parts share; a request goes through `http`, then `rest`.
"""
