"""The copy of the user's model that runs on the meta device."""
