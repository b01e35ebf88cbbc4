"""`ldm export`: a run as a pipeline of diffusers, with the code it needs and a model card, here or on the Hub."""
