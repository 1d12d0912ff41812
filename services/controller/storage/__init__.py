"""Controllers of volumes and claims: binding, making, attaching, protecting them."""
