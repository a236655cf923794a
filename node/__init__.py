"""One running ClinicMesh node: all I/O. What to do is decided in `sync`."""
