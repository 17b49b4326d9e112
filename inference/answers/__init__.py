"""How frames of a run become the objects of OpenAI's API."""
