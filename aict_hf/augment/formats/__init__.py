"""Reading and writing the formats of annotated datasets."""
