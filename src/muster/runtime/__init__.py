"""What every process needs: clock, ids, back-off, supervision of tasks, settings, logs."""
