"""`python -m workers.cli` is `aigc`."""

from workers.cli import main

main()
