"""Measurements that stand beside the package: speed, and how good suggested learning rates are."""
