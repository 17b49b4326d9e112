"""Frames of a run turned into the objects of OpenAI's API."""
