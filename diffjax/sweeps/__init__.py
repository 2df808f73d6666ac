"""Ablations: grids of cells, studies of papers, their tables, intervals and claims."""
