"""metrics.k8s.io: the present use of CPU and memory by nodes and pods, as the metrics-server add-on serves it.

Kubelets are asked when somebody asks, so a cluster in which nobody does pays nothing. An APIService that names a Service for
v1beta1.metrics.k8s.io takes the place of this one.
"""
