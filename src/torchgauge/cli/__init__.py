"""The command line: ``torchgauge COMMAND …``. Torch is imported only inside functions."""
