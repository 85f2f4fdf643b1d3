"""What crosses a process boundary: HTTP bodies, callback events, commands to nodes."""
