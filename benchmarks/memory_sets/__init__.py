"""Published measurements of GPU memory, as cases that torchgauge predicts.

One file per set says what was run and measured, and where that is written. The data files lie
beside the repository (``../shared/data``), which holds none of their rows; ``run.py`` compares.
"""
