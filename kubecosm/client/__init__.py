"""The client library: HTTP client, watcher, informer, work queue, controller runner, events, leader election."""
