"""`python -m aict_hf` runs the `aict` command."""

from .cli import main

main()
