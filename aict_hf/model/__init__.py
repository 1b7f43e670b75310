"""All that travels to the Hub with a checkpoint: flat files that import only one another."""
