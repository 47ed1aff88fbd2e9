"""The report: its driver, exporters and command line. Nothing outside this folder knows that there is a report."""
