"""GGUF files: their format, their header, and facts read from it."""
