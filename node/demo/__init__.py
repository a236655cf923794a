"""The demo: a clinic, a courier and a cloud node on this machine bring a real study into a PACS.

Everything is real: three processes with folders of their own, mutual TLS, a real Orthanc where one is
installed. The courier is never connected to both ends. Called by `clinicmesh demo` and `run.py`.
"""
