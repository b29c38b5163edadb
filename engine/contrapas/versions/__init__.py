"""Two versions of a machine, state by state: what an instance of the one can do under the other. Pure: data in, verdicts out."""
