"""torchgauge in a notebook: ``%load_ext torchgauge``, short errors, the page in a cell.

What a cell shows of an answer is drawn in ``render/cells.py``, as every answer is.
"""
