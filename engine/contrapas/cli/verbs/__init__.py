"""One file per verb or noun; each is imported when its verb runs, and not before."""
