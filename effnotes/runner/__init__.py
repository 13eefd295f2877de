"""From chapter sources to pages: plan, key, run, record, stage and build.

`plan` reads parameters and refuses what it does not know, `keys` says what a record depends on, `execute` runs one chapter in a
kernel, which tells of itself by `kernel`, `schedule` spreads chapters over processes or a cluster, `records` keeps what they
returned, `stage` and `site` make pages. The runner knows notebooks and records and nothing of what a chapter computes.
"""
