"""The phone's shell: a parser, an interpreter, and the commands that a phone has, by family."""
