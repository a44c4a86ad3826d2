"""The dispatch mode, and what it writes down: operators, storages, module calls."""
