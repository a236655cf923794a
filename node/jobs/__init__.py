"""What a node does by itself: replicate, forward, sweep, scrub."""
