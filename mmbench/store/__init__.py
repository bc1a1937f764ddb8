"""Results on disk: stages, records, sweeps, locks, and which runs are being computed."""
