"""The crash matrix: what is done to the writer process and its files, and what must still be there afterwards."""
