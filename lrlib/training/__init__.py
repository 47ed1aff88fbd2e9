"""One epoch as a pure function, its numerics, and the backends that carry it out."""
