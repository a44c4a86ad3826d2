"""From a model to a service: ``package`` writes a folder, ``serving`` answers from it."""
