"""The scheduling queue: active, back-off and unschedulable pods, and what moves them."""
