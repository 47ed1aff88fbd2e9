"""What the report says: the author's numbers, the experiments, readings, claims, errata, evidence and figures."""
