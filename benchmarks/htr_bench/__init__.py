"""How fast, and how steadily, each engine reads."""
