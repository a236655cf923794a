"""The HTTP face for people and tools (port 8443) and its errors."""
