"""Answers that are given again to a question which differs in its wording only."""
