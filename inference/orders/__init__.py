"""What a request asks: read, checked and given its defaults."""
