"""`ldm evaluate`: what is measured, of which pictures, against what, and where the numbers go."""
