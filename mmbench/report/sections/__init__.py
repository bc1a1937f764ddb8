"""The sections of the report, one a file. A file in this folder is found by lying there."""
