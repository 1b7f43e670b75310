"""`python -m aict_hf`: the same as the `aict` command."""

from .cli import main

main()
