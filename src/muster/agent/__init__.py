"""The node agent: one per PC. Takes commands, runs tasks on phones, tells the backend what happened."""
