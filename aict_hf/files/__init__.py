"""Reading and writing images, and folders of photos."""
