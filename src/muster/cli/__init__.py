"""The command line: one file per noun; it talks HTTP like everybody else."""
