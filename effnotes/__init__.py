"""What making neural networks cheaper does to the things that make them trustworthy.

The library under the effnotes book. A chapter calls the rooms of one subject (`pruning`, `metrics`), the three rooms that all
subjects share (`datasets`, `models`, `training`) and reports with `claims`, `figures` and `tables`; `kept` reads the record of a
long run. `runner` executes chapters and is never imported by the others.
"""

__version__ = "0.1.0"
