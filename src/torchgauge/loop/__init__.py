"""The loop of changing a model: the sides of a comparison, and what is analysed again and again."""
