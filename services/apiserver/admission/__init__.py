"""What may still change or refuse a write after authorization: built-in plugins, policies, webhooks. See docs/admission.md.

`chain` is the contract, `plugins` the table in the order in which they are asked; `matching`, `expressions` and `engine` are what webhooks
and policies share.
"""
