"""Horizontal pod autoscaler: sizes workloads by what their pods use.

`calculator.py` turns measured values into replicas, `behavior.py` slows the change down, `metrics.py` asks the metrics APIs,
`proposals.py` puts metric and calculation together, `controller.py` reconciles.
"""

from .controller import HorizontalPodAutoscaler, build

__all__ = ["HorizontalPodAutoscaler", "build"]
