"""The sections of the report, one per file. Every file in this folder is used."""
