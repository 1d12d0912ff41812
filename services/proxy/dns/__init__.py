"""The cluster DNS: names of Services and headless pods, answered from the proxy's caches; everything else goes upstream."""
