"""The model as rows of a table: folded, cut at a depth, with what is special about each."""
