"""The virtual rack: phones behind the real protocols. Imported by nobody but the command line."""
