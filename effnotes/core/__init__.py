"""What every room stands on: jobs side by side with a cache, digests of what a result depends on, processes, and errors."""
