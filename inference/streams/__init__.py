"""Token streams: numbered frames in Redis."""
