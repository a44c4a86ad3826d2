"""What an operator answers without data: shapes, dtypes and facts of its schema."""
