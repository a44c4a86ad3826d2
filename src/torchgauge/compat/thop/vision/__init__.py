"""The rules that ``thop.vision`` offers for use in custom rules."""
