"""`ldm demo` as the leader of a process group: python -m tests.commands.demo_in_group ARGUMENTS."""

from __future__ import annotations

import os
import sys

from open_ldm.cli.main import main

if __name__ == "__main__":
    os.setsid()
    main(["demo", *sys.argv[1:]])
