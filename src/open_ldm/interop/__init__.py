"""Published weights: their layouts as key maps, and what each file says of its model."""
