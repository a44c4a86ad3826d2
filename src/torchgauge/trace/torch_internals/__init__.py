"""The only package that uses private torch names. Each name says in which versions it was seen.

If one of them disappears, the change belongs here: everything else uses the names of these modules.
"""
