"""Realistic sagas by trade. A line that ends in `# CPnnn` is a mistake; a saga without such a line is right."""
