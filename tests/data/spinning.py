"""The entry of children that use processors, and nothing else."""

import os
import signal
import time

from services.kit.child import Child, Json


def main(request: Json, child: Child) -> Json:
    """Works for so many seconds."""
    while time.process_time() < request["seconds"]:
        pass
    if request.get("dies"):
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    return {}
