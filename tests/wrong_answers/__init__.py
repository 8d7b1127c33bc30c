"""Wrong answers to the assignments, and the points that each must lose: one file an assignment.

Each file holds ``WRONG``, a list of ``assignments.Wrong``, at least three for every question.
"""
