"""Ask llama.cpp what this machine has, in a process of its own."""

import json
import logging
import subprocess
import sys

from models_registry.fleet.nodes import DeviceFacts, NodeFacts

logger = logging.getLogger(__name__)

PROBE_SECONDS = 60.0
_COMMAND = (sys.executable, "-m", "inference.engine.llama.probe")


def probe_node() -> NodeFacts | None:
    """The GPUs and CPU features of this machine; None when llama.cpp could not say."""
    try:
        answer = subprocess.run(
            _COMMAND, capture_output=True, text=True, timeout=PROBE_SECONDS, check=True
        )
        found = json.loads(answer.stdout)
        return NodeFacts(
            gpus=tuple(DeviceFacts(**gpu) for gpu in found["gpus"]),
            cpu_features=tuple(found["cpu_features"]),
        )
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        logger.warning("the devices of this machine are not known: %s", error)
        return None
