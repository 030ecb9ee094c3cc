"""Check families. A family file holds the kernels of its kinds; ``registry`` lowers a specification to a row."""
