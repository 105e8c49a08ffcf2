"""From frames to a few tokens each: vision tower, token merging and projector."""
