"""What a clinic hands in: the spool, detection, examination."""
