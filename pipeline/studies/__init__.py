"""The published studies measured again: cells that accumulate, and the page made from them.

A study is a list of cells. A cell is one part of a study, one variant and one seed; its result is
one JSON file, so that seeds add up over several runs and machines.
"""
