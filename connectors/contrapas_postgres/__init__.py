"""PostgreSQL for contrapas: the log (`postgresql://…`) and the participant's store."""
