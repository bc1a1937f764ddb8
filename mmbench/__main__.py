"""`python -m mmbench` is the `mmbench` command. Like it, it takes nothing but mmbench from the current folder."""

import os
import sys

if not sys.flags.safe_path:
    here = sys.path.pop(0)  # the current folder, where a file `random.py` may lie
    if here == os.path.dirname(os.path.dirname(os.path.abspath(__file__))):  # noqa: PTH120, PTH100
        # This mmbench lies there, not installed: then it is every process's.
        sys.path.insert(0, here)
        os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])

from mmbench.cli.main import main

main()
