"""The REST verbs over any resource, and the subresources that need more than a verb."""
