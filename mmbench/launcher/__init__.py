"""From a sweep to its jobs, and from the jobs to processes."""
