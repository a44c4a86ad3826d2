"""How long a step takes. ``kernels``: what operators ask for; ``gpu`` and ``cpu``: its time there.

Both rooms return a ``Prediction``; ``reporting`` and ``trace_file`` tell it.
"""
