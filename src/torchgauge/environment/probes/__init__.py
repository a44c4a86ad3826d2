"""Programs that the doctor runs in the interpreter it examines, each in a process of its own.

They are started by path, never imported: a module that breaks, aborts or hangs takes its own
process with it and nothing else. They use the standard library of Python 3.8 alone, run under
any interpreter, and write one JSON object per line to the file that their first argument names,
so that what was learned before a crash is kept.
"""
