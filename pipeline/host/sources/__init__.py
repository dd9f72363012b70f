"""Where the pixels and labels of the host's competitions come from."""
