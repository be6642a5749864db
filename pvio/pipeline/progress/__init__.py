"""Progress of a whole run: what each job notes, the sums of all jobs, and a line on the terminal.

The jobs themselves live in `pvio.pipeline.jobs`.
"""
