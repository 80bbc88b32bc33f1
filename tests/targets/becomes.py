"""Programs that become one another by exec, each with a GIL that it publishes: ``becomes.py [INTERPRETER…]``.

Each writes a line when it has published, and goes on when it reads one.
"""

import os
import sys

import lab

lab.publish()
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.readline()
if sys.argv[1:]:
    os.execv(sys.argv[1], [sys.argv[1], __file__, *sys.argv[2:]])
