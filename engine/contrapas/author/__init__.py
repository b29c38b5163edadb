"""What an author writes: events, commands, sagas, steps, services. It runs nothing and knows no log, no compiler."""
