"""Store, cluster and engine, and the runs that a person asks for."""
