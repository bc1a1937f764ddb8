"""`python -m mmbench` is the `mmbench` command."""

from mmbench.cli import main

main()
