"""Which videos there are, and what their results are called. Reads no content of videos."""
