"""API priority and fairness: which requests share seats, who waits when there are none, and in what order they go on.

See docs/flow-control.md.
"""
