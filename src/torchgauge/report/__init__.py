"""Where version 0.1 kept reports: its pickled reports name a function in here."""
