"""LiteLLM's proxy before an upstream that says the same each time: `python llm.py graph port port`."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_SAID = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "1"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()


async def upstream(scope: Any, receive: Any, send: Any) -> None:
    """Reads the request and answers."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_SAID))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _SAID})


if __name__ == "__main__":
    if sys.argv[1] == "upstream":
        import uvicorn

        uvicorn.run(upstream, port=int(sys.argv[2]), lifespan="off", access_log=False, log_level="warning")
    else:
        port, behind = sys.argv[2:4]
        given = {"model": "openai/bench", "api_base": f"http://127.0.0.1:{behind}/v1", "api_key": "none"}
        config = Path(tempfile.mkdtemp()) / "config.yaml"
        models, keys = [{"model_name": "bench", "litellm_params": given}], {"master_key": os.environ["BENCH_KEY"]}
        config.write_text(json.dumps({"model_list": models, "general_settings": keys}))
        stub = subprocess.Popen([sys.executable, __file__, "upstream", behind])
        program = [sys.executable, "-c", "from litellm.proxy.proxy_cli import run_server; run_server()"]
        serve = [*program, "--config", str(config), "--host", "127.0.0.1", "--port", port, "--num_workers", "1"]
        try:
            # Its prices of others' models are its own affair, and not to be fetched.
            subprocess.run(serve, check=False, env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"})
        finally:
            stub.kill()
