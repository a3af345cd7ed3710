"""FiRe-OPD (arXiv 2606.02684): filter trajectories, then reweight tokens. One idea a file; selection needs no torch."""
