"""What the reproduction computes: its runs, its claims, its readings and its figures."""
