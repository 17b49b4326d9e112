"""Continuous batching over a language model: no Django, no I/O, no locks.

Each step fills one batch: ``schedule → decode → sample → postprocess``.
"""

import os

# llama.cpp's OpenMP runtime reads its settings once, when llama_cpp is first imported, which is
# after this module. By default its idle threads spin for milliseconds. As soon as another process
# wants the same cores, every step waits for threads that lost their core while spinning.
# 10,000 turns bridge the gap between two graph nodes without using up a time slice.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
