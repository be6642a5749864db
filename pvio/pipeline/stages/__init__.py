"""The stages of a run, one module each: probe, plan, infer, encode, assemble, report."""
