"""Will it fit? A step is traced, then others like it: larger, smaller, leaner."""
