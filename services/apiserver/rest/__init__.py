"""The REST verbs over any resource, and the subresources that need more than a verb.

`router` finds who answers, `reads`, `writes`, `patch` and `watch` are the verbs, `store` is the generic store that they call.
"""
