"""The host's HTTP methods, one file per service."""
