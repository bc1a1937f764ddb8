"""`python -m mmbench` is the `mmbench` command."""

from mmbench.cli.main import main

main()
