"""What only a study needs: run as `python -m benchmarks.studies.NAME`."""
