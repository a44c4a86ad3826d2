"""Completion of the command line in bash, zsh and fish, made from the commands' own parsers."""
