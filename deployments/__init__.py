"""How a model answers: the Serve graph and its HTTP interface. Knows models, not pipelines."""
