"""Continuous batching over a language model: no Django, no I/O, no locks.

Each step fills one batch: ``schedule → decode → sample → postprocess``.
"""

import os

# llama.cpp's OpenMP runtime reads its settings once, when llama_cpp is first imported; this module
# is imported before. Left alone its idle threads spin for milliseconds, and as soon as another
# process wants the same cores every step waits for threads that lost theirs while spinning.
# This many turns bridge the gap between two graph nodes without burning a time slice.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
