"""`ldm studio`: a web page over runs and sampling. Every page calls functions of this package that know no browser."""
