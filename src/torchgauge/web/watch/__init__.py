"""The live page of ``torchgauge watch --ui``: each version of the files is pushed to the browser.

Two processes of one tree: the watch in the terminal analyses (``loop.watching``), and a server that
it starts shows what came of it. The watch tells the server by a pipe; where the pipe ends, so does
the server.
"""
