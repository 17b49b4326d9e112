"""Speculative decoding: tokens guessed ahead, and how many of them to compute."""
