"""From the weights of one model to the start of another: other sizes, other conditions, other latents, with a receipt."""
