"""The local competition host: a loopback server that the official `kaggle` client talks to.

Its state (users, hidden labels, submissions, fetched archives) lies in the user's data folder, or
in the folder named by PIPELINE_HOST_STATE. CIFAR10_ARCHIVE may name a copy of CIFAR-10 to build
dog-vs-cat-vs-bird from.
"""
