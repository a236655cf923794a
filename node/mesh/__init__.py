"""Nodes among each other: TLS, meetings, sticks."""
