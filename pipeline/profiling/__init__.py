"""What a network costs: layer by layer, and measured beside others in one interleaved run."""
