"""Results by content on disk: stages, records, sweeps, locks, who is at work."""
