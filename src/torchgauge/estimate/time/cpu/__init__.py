"""Time of a step on a CPU that was calibrated (``torchgauge.measure.calibration``)."""
