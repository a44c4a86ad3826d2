"""The user's source as trees: where a module is made, what names mean, how calls are laid out."""
