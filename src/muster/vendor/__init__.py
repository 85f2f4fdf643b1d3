"""Client of the vendor's casting tool: a protocol without I/O and a pool of connections around it."""
