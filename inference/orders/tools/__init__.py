"""Tool calling: what a request may ask, how models write calls, and how calls are answered."""
