"""`python -m node` is the command `clinicmesh`."""

from node.cli import main

main()
