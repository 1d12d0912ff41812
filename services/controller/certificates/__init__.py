"""Certificate requests: approved, signed, forgotten; and bootstrap tokens, with which new nodes ask for their first one."""
