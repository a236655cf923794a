"""What a node keeps: the database, blobs, sealed studies."""
