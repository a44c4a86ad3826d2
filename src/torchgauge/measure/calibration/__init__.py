"""This machine's CPU, operator by operator: what predictions of its time need."""
