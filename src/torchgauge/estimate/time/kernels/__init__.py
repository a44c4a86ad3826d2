"""What an operator asks of any device: its kernels, and what each computes, reads and writes."""
