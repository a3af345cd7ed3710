"""Set-up and operation: what is run to serve the flows. Nothing imports this."""
