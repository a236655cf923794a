"""Bringing studies into a PACS and proving that they are there."""
