"""One module per group of OpenAI's routes."""
