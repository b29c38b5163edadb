-- contrapas: removes version 1 of the tables of a participant, with every row that was not yet sent.

drop table contrapas_outbox;

drop table contrapas_inbox;

drop table contrapas_relay;

drop table contrapas_store;
