"""The process of llama-server: ``python -m inference_site.tools.bench.llama_server_process``.

It reads its options as one line of JSON from standard input and writes its address as one line of
JSON to standard output. It ends at the end of its standard input, and so with its parent.
"""

import json
import sys
from typing import Any


def serve(options: dict[str, Any]) -> None:
    """Serves a model until standard input ends.

    Args:
        options: ``model_path``, ``threads``, ``parallel`` (slots) and ``context_tokens``, which
            the slots share (``kv_unified``).
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options["model_path"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = options["context_tokens"]
    params.n_parallel = options["parallel"]
    params.kv_unified = True
    params.cpuparams.n_threads = options["threads"]
    params.cpuparams_batch.n_threads = options["threads"]
    server = xllamacpp.Server(params)
    ready = {
        "address": server.listening_address,
        "system_info": xllamacpp.get_system_info(),
        "version": xllamacpp.__version__,
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    serve(json.loads(sys.stdin.readline()))
