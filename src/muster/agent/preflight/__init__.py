"""What is asked before any step: of a device just before its task, of the node at boot and from then on (R2)."""
