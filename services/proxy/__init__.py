"""kube-proxy and cluster DNS: sends traffic to pods. Owns the Service addresses of the loopback network and the answers of the cluster domain."""
