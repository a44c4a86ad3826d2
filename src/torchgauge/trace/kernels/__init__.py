"""Virtual devices: which kernels a target runs, as replacements of composite operators."""
