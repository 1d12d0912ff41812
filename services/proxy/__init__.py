"""kube-proxy and cluster DNS: owns the Service addresses of the loopback network and the answers of the cluster domain."""
