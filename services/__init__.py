"""The five processes of a cluster, one folder each. They meet only over HTTP; none imports another."""
