"""Lay two results side by side: pure data in, pure data out."""
