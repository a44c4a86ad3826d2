"""What pictures of a step are drawn from, here and in other programs."""
