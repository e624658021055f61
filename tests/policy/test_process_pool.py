"""Processes of a pool end with the one that made them."""

import subprocess
import sys

SCRIPT = """
import os, time
from mjxppo.policy.processes import process_pool

if __name__ == "__main__":
    with process_pool(2) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(3600)
"""


def test_a_pools_processes_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert int(parent.stdout.readline()) != parent.pid
        parent.kill()
        # Ends once every process that has inherited it has ended.
        assert parent.communicate(timeout=120)[0] == ""
