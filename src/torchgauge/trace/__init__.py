"""Run a model once, on meta tensors, and write down what ran: torch in, ``Trace`` out."""
