"""The stages of a run, one module each: probe, plan, infer, encode, assemble, check.

What several stages share lives in the other packages of the pipeline.
"""
