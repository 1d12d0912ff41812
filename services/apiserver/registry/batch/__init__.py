"""Kinds of the batch group: Jobs, CronJobs."""
