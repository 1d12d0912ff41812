"""kube-controller-manager: every controller watches some resources and brings the cluster closer to what they ask for.

`table` lists the controllers, `accounts` the identities they act under, `app` runs them. Told in docs/controllers.md.
"""
