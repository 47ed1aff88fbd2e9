"""The study "How good are learning-rate suggestions?": its code, problems, notebooks and tests."""
