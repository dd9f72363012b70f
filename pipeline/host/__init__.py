"""The local competition host: a loopback server that the official `kaggle` client talks to."""
