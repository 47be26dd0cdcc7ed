"""Planning: what a run means, and what many runs mean together."""
