"""Kinds of the autoscaling group: HorizontalPodAutoscalers."""
