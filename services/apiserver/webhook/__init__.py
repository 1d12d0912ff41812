"""Calls of webhooks that users configure: admission, conversion of custom resources, image policy."""
