"""Copy-paste augmentation of annotated datasets."""
