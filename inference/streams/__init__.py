"""Token streams: numbered frames in Redis, read by whoever follows a generation."""
