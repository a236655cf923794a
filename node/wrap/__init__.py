"""Wrapping: pictures, PDFs and the clinical impression become DICOM instances of a study.

What is decoded, shaped or drawn is done in a process of its own (`node.wrap.worker`), which may die of it;
`node.wrap.press` is this process's side. The same input gives the same bytes on every node.
"""
