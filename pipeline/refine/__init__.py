"""Better answers from the out-of-fold predictions of runs that are there, honestly measured."""
