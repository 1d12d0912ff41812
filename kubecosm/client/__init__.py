"""HTTP client, watcher, informer, work queue, leader election, event recorder, kubeconfig."""
