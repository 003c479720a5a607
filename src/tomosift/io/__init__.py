"""Files to and from arrays and tables; all axis orders, units, contrast and signs are converted here."""
