"""The language-neutral contract: Avro schemas of the log, JSON of the command line. Data only, no code."""
