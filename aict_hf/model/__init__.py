"""The files that are copied to the Hub with a checkpoint. They import each other and a few libraries only."""
