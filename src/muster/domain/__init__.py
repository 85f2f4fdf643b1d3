"""The vocabulary: ids, states, reasons, limits. Standard library only; everything else may import it."""
