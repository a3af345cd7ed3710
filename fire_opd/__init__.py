"""fire-opd: filter-then-reweight on-policy distillation (arXiv 2606.02684) as a versioned, scheduled pipeline."""
