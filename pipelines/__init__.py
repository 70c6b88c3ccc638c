"""How a model is made: data, training, evaluation, promotion."""
