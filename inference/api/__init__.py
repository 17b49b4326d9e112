"""HTTP in OpenAI's shapes."""
