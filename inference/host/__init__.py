"""The process that is a replica: it claims generations, runs them and publishes their frames."""
