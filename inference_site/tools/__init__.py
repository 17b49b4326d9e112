"""Programs that measure and show the service from outside."""
