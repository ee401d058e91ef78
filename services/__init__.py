"""The servers of AI Mass."""

import os

# Every service, each a folder beside this file, in the order of their start. The one list of them.
SERVICES = ("gateway", "data", "trainer", "registry", "inference", "logs")

# Before any library loads: ONNX Runtime else writes an identifier of the machine to the disk and tells its maker what
# is run here (its Privacy.md names this variable). What runs here is nobody else's business.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Before gRPC loads: children are started by exec, so it need not look after itself in them, nor say on every terminal
# that it does not.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Before pydantic loads: it else reads what every package of this Python says of itself, in case one is a plugin.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
