"""The range test for anyone's model. Nothing here knows of this project's own problems, runs or report."""
