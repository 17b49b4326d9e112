"""One module per kind of source: checks a URL and says how its file is fetched."""
