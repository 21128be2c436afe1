"""Whole jobs on a user's files: a folder segmented, a model fine-tuned, trained or measured on every protocol.

Each is a function or a class to call from Python; the command line parses and prints. How far a job is comes out
through a callback.
"""
