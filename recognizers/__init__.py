"""Light streaming recognizers that watch a stream first (torch only)."""
