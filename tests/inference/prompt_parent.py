"""A process with a prompt process of its own, for the test that kills it.

Run as ``python -m tests.inference.prompt_parent MODEL_FILE``; writes the prompt process's pid.
"""

import asyncio
import multiprocessing
import sys

from inference.prompts.tokenizer import Tokenizer
from models_registry.rules.spec import ModelSpec


def main() -> None:
    """Start a prompt process, name it, and wait to be killed."""
    path = sys.argv[1]
    spec = ModelSpec("m", "m:1", "text_generation", path, "", 512, 512, 1)
    tokenizer = Tokenizer(1, 1000)
    asyncio.run(tokenizer.text(spec, "hello", "input"))
    (child,) = multiprocessing.active_children()
    sys.stdout.write(f"{child.pid}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
