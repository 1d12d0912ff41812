"""Seeded failure: kills and pauses components while a workload writes, then heals and checks that nothing acknowledged is lost.

`python -m kubecosm.chaos --seed 7` runs it against a cluster. One seed draws the whole schedule and is printed first, so a run can be
repeated. Two phases, as in deterministic simulation: safety while faults happen, then liveness: everything must converge within a bound.
"""
